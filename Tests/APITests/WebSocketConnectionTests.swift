import Foundation
import HostAPI
import Model
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

@Suite(.serialized) struct WebSocketConnectionTests {
  private func started(_ server: LiveServer, _ start: String) async throws -> (StreamClient, SandboxID) {
    let id = try await server.create()
    let (client, _) = try await StreamClient.open(server, "/v1/sandboxes/\(id)/exec/stream")
    try await client.send(start)
    _ = try await client.json()
    return (client, try #require(SandboxID(wire: id)))
  }

  @Test(
    "malformed frames close the connection with a code and kill the process",
    arguments: [
      (FrameBytes.bytes(1, [65], mask: nil), 1002), (FrameBytes.bytes(1, [65], reserved: 0x40), 1002),
      (FrameBytes.bytes(3, []), 1002),
      (FrameBytes.bytes(0, []), 1002), (FrameBytes.bytes(9, [], isFinal: false), 1002),
      (FrameBytes.bytes(8, [3]), 1002),
      (FrameBytes.bytes(1, [0xff]), 1007), ([0x82, 0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0], 1009),
    ] as [([UInt8], Int)])
  func broken(frame: [UInt8], code: Int) async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await started(server, #"{"type":"start","cmd":"sleep","stdin":true}"#)
      try await client.raw.send(frame)
      #expect(try await client.closeCode() == code)
      #expect(try await eventually { await server.host.processes[id]?.allSatisfy { !$0.isAlive } == true })
    }
  }

  @Test("pings get pongs, also between fragments, and fragments arrive as one message")
  func pingBetweenFragments() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await started(server, #"{"type":"start","cmd":"cat","stdin":true,"binary":true}"#)
      try await client.raw.send(FrameBytes.bytes(2, [1, 2], isFinal: false))
      try await client.raw.send(FrameBytes.bytes(9, [42]))
      try await client.raw.send(FrameBytes.bytes(0, [3]))
      let pong = try #require(try await client.raw.readFrame())
      #expect(pong.opcode == 10)
      #expect(pong.payload == [42])
      #expect(try await client.raw.readFrame()?.payload == [1, 1, 2, 3])
    }
  }

  @Test("frames that arrive byte by byte are parsed")
  func byteByByte() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await started(server, #"{"type":"start","cmd":"cat","stdin":true,"binary":true}"#)
      for byte in FrameBytes.bytes(2, [9, 8, 7]) { try await client.raw.send([byte]) }
      #expect(try await client.raw.readFrame()?.payload == [1, 9, 8, 7])
    }
  }

  @Test("a close frame gets a close frame with the same code, then the connection ends")
  func close() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await started(server, #"{"type":"start","cmd":"sleep"}"#)
      try await client.raw.send(FrameBytes.bytes(8, [0x03, 0xe8] + Array("bye".utf8)))
      #expect(try await client.closeCode() == 1000)
      _ = try await client.raw.readAll()
    }
  }

  @Test("the server waits only briefly for a client's close frame")
  func closeUnanswered() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await started(server, #"{"type":"start","cmd":"exit"}"#)
      let begin = ContinuousClock.now
      _ = try await client.raw.readAll()
      #expect(ContinuousClock.now - begin < .seconds(30))
    }
  }

  @Test("a request with a body and an impossible upgrade gets an ordinary response")
  func bodyWithUpgrade() async throws {
    try await withServer { server async throws -> Void in
      let raw = try await server.clients.connect(server.port)
      try await raw.send(
        "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n"
          + "\r\n{}"
      )
      #expect(try await raw.readHead().hasPrefix("HTTP/1.1 400"))
    }
  }

  @Test(
    "a client that reads nothing cannot keep its process after stop, nor block the server",
    arguments: [true, false])
  func deaf(saysStop: Bool) async throws {
    // The server stops while the connection is open.
    try await withServer { server async throws -> Void in
      let (client, id) = try await started(server, #"{"type":"start","cmd":"flood"}"#)
      try await client.raw.stopReading()
      let process = try #require(await server.host.processes[id]?.last)
      guard saysStop else { return }
      // Long enough to fill the buffers in between.
      try await Task.sleep(for: .milliseconds(300))
      try await client.send(#"{"type":"stop"}"#)
      #expect(try await eventually { !process.isAlive })
    }
  }

  @Test("requests that may not upgrade get ordinary error responses")
  func refused() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let (_, unknown) = try await StreamClient.open(server, "/v1/sandboxes/\(SandboxID().wire)/exec/stream")
      #expect(unknown.hasPrefix("HTTP/1.1 404"))
      let (_, origin) = try await StreamClient.open(
        server, "/v1/sandboxes/\(id)/exec/stream", headers: "Origin: https://evil.example\r\n")
      #expect(origin.hasPrefix("HTTP/1.1 403"))
      let (_, elsewhere) = try await StreamClient.open(server, "/health")
      #expect(elsewhere.hasPrefix("HTTP/1.1 200"))
      let plain = try await server.send(.GET, "/v1/sandboxes/\(id)/exec/stream")
      #expect(plain.status == 400)
      #expect(plain.errorMessage?.contains("WebSocket") == true)
      _ = try await server.send(.DELETE, "/v1/sandboxes/\(id)")
      let (_, stopped) = try await StreamClient.open(server, "/v1/sandboxes/\(id)/exec/stream")
      #expect(stopped.hasPrefix("HTTP/1.1 409"))
    }
  }

  @Test("an upgrade works on a connection that has been used for requests")
  func upgradeAfterRequest() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let raw = try await server.clients.connect(server.port)
      try await raw.send("GET /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(server.key)\r\n\r\n")
      let head = try await raw.readHead()
      #expect(head.hasPrefix("HTTP/1.1 200"))
      try await Task.sleep(for: .milliseconds(50))
      try await raw.send(
        "GET /v1/sandboxes/\(id)/exec/stream HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(server.key)\r\nUpgrade: websocket\r\n"
          + "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      )
      let upgraded = try await raw.readHead()
      #expect(upgraded.contains("HTTP/1.1 101"))
    }
  }

  @Test("malformed HTTP gets 400 in the API's format, and too many header fields get 413")
  func notHTTP() async throws {
    try await withServer { server async throws -> Void in
      let garbage = try await server.clients.connect(server.port)
      try await garbage.send("\u{1}\u{2}nonsense\r\n\r\n")
      let response = try await garbage.readAll()
      #expect(response.hasPrefix("HTTP/1.1 400"))
      #expect(response.contains(#""code":"invalid_request""#))
      let large = try await server.clients.connect(server.port)
      try await large.send(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: \(String(repeating: "a", count: 40_000))\r\n\r\n")
      let refused = try await large.readAll()
      #expect(refused.hasPrefix("HTTP/1.1 413"))
      #expect(try await server.send(.GET, "/health").status == 200)
    }
  }

  @Test("output to a client that does not read is bounded in memory")
  func backPressure() async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await started(server, #"{"type":"start","cmd":"flood","binary":true}"#)
      _ = try await client.raw.readFrame()
      await client.raw.close()
      #expect(try await eventually { await server.host.processes[id]?.allSatisfy { !$0.isAlive } == true })
    }
  }

  @Test("a server that stops sends close frames on its streams")
  func shutdown() async throws {
    let box = ClientBox()
    try await withServer(closesClients: false) { server async throws -> Void in
      let (client, _) = try await started(server, #"{"type":"start","cmd":"sleep"}"#)
      await box.set(client)
    }
    let client = try #require(await box.client)
    #expect(try await client.closeCode() == 1001)
  }
}

private actor ClientBox {
  private(set) var client: StreamClient?
  func set(_ client: StreamClient) { self.client = client }
}
