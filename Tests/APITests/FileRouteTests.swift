import AsyncHTTPClient
import Foundation
import Model
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

@Suite(.serialized) struct FileRouteTests {
  private static let everyByte = ByteBuffer(bytes: Array(UInt8.min...UInt8.max))

  @Test("a file is read back byte for byte", arguments: ["write", "stream/write"], ["read", "stream/read"])
  func roundTrip(write: String, read: String) async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let written = try await server.upload(
        "/v1/sandboxes/\(id)/files/\(write)", [("path", ByteBuffer(string: "/tmp/a")), ("file", Self.everyByte)])
      #expect(written.status == 204)
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/files/\(read)", json: #"{"path":"/tmp/a"}"#)
      #expect(response.status == 200)
      #expect(response.headers.first(name: "Content-Length") == "256")
      #expect(response.headers.first(name: "Content-Type") == "application/octet-stream")
      #expect(response.body == Self.everyByte)
    }
  }

  @Test("a large file is streamed in both directions")
  func large() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let content = ByteBuffer(bytes: (0..<(8 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) })
      let written = try await server.upload(
        "/v1/sandboxes/\(id)/files/stream/write", [("path", ByteBuffer(string: "big")), ("file", content)])
      #expect(written.status == 204)
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/files/stream/read", json: #"{"path":"big"}"#)
      #expect(response.body == content)
    }
  }

  @Test("an upload whose Content-Length is too large is 413 before it is read")
  func announcedTooLarge() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let client = try await server.clients.connect(server.port)
      try await client.send(
        "POST /v1/sandboxes/\(id)/files/write HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(server.key)\r\n"
          + "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 209715200\r\n\r\n--B\r\n"
      )
      let response = try await client.readAll()
      #expect(response.hasPrefix("HTTP/1.1 413"))
      #expect(response.contains("too_large"))
      #expect(response.contains("files/stream/write"))
    }
  }

  @Test("a broken upload is an error for the guest, never a shorter file")
  func truncatedUpload() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let client = try await server.clients.connect(server.port)
      try await client.send(
        "POST /v1/sandboxes/\(id)/files/stream/write HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(server.key)\r\n"
          + "Content-Type: multipart/form-data; boundary=B\r\nTransfer-Encoding: chunked\r\n\r\n"
      )
      let head =
        "--B\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\n/x\r\n--B\r\n"
        + "Content-Disposition: form-data; name=\"file\"\r\n\r\nsome content"
      try await client.send("\(String(head.utf8.count, radix: 16))\r\n\(head)\r\n")
      try await Task.sleep(for: .milliseconds(100))
      await client.close()
      #expect(try await eventually { await server.host.brokenUploads == 1 })
      let sandbox = try #require(SandboxID(wire: id))
      #expect(await server.host.file("/x", in: sandbox) == nil)
    }
  }

  @Test("a broken download is a broken transfer, never a shorter file", arguments: [1_000_000, nil] as [Int64?])
  func brokenDownload(announced: Int64?) async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      await server.host.put("/x", ByteBuffer(repeating: 1, count: 1_000_000), in: try #require(SandboxID(wire: id)))
      await server.host.breakReads(after: 300_000, announcing: announced)
      await #expect(throws: (any Error).self) {
        try await server.send(.POST, "/v1/sandboxes/\(id)/files/stream/read", json: #"{"path":"/x"}"#)
      }
    }
  }

  @Test("a file that does not exist is 404", arguments: ["read", "stream/read", "stat", "remove"])
  func missing(route: String) async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/files/\(route)", json: #"{"path":"/nope"}"#)
      #expect(response.status == 404)
      #expect(response.errorCode == "not_found")
    }
  }

  @Test("list, stat, mkdir, rename and remove return entries")
  func names() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let files = "/v1/sandboxes/\(id)/files"
      _ = try await server.upload(
        "\(files)/write", [("path", ByteBuffer(string: "/d/a")), ("file", ByteBuffer(string: "abc"))])
      let list = try await server.send(.POST, "\(files)/list", json: #"{"path":"/d","depth":1}"#).list
      #expect(list.compactMap { $0["name"] as? String } == ["a"])
      let stat = try await server.send(.POST, "\(files)/stat", json: #"{"path":"/d/a"}"#).json
      #expect(stat["size"] as? Int == 3)
      #expect(stat["modified_at"] as? String == "2023-11-14T22:13:20.000000Z")
      #expect(
        try await server.send(.POST, "\(files)/mkdir", json: #"{"path":"/e"}"#).json["type"] as? String == "directory")
      #expect(
        try await server.send(.POST, "\(files)/rename", json: #"{"from":"/d/a","to":"/d/b"}"#).json["path"] as? String
          == "/d/b")
      #expect(try await server.send(.POST, "\(files)/remove", json: #"{"path":"/d/b"}"#).status == 204)
    }
  }

  @Test(
    "bad paths are 400 in every field", arguments: ["read", "stream/read", "list", "mkdir", "remove", "stat"],
    [#"{}"#, #"{"path":""}"#, #"{"path":"a\u0000b"}"#, #"{"path":5}"#, #"{"path":"/x","user":""}"#, #"{"file":"/x"}"#])
  func badPaths(route: String, body: String) async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      #expect(try await server.send(.POST, "/v1/sandboxes/\(id)/files/\(route)", json: body).status == 400)
    }
  }

  @Test("too long paths, rename without a target and invalid depths are 400")
  func badRequests() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let files = "/v1/sandboxes/\(id)/files"
      let long = String(repeating: "x", count: 4_097)
      #expect(try await server.send(.POST, "\(files)/stat", json: "{\"path\":\"\(long)\"}").status == 400)
      #expect(try await server.send(.POST, "\(files)/rename", json: #"{"from":"/a"}"#).status == 400)
      #expect(try await server.send(.POST, "\(files)/rename", json: #"{"from":"/a","to":"b\u0000"}"#).status == 400)
      #expect(try await server.send(.POST, "\(files)/list", json: #"{"path":"/","depth":0}"#).status == 400)
    }
  }

  @Test("uploads without a valid form are 400")
  func badForms() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let path = "/v1/sandboxes/\(id)/files/write"
      let (name, file) = (ByteBuffer(string: "/x"), ByteBuffer(string: "y"))
      #expect(try await server.upload(path, [("file", file), ("path", name)]).status == 400)
      #expect(try await server.upload(path, [("path", name)]).status == 400)
      #expect(try await server.upload(path, [("path", ByteBuffer()), ("file", file)]).status == 400)
      #expect(try await server.upload(path, [("path", ByteBuffer(bytes: [0x61, 0])), ("file", file)]).status == 400)
      #expect(try await server.upload(path, [("path", ByteBuffer(bytes: [0xff])), ("file", file)]).status == 400)
      #expect(try await server.upload(path, [("pfad", name), ("file", file)]).status == 400)
      #expect(try await server.send(.POST, path, json: #"{"path":"/x"}"#).status == 400)
      #expect(await server.host.files.isEmpty)
    }
  }
}
