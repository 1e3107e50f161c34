import Concurrency
import Foundation
import GuestClient
import HTTPTypes
import HostAPI
import Hummingbird
import Model
import NIOCore
import Testing

@Suite("files of a guest", .serialized, .timeLimit(.minutes(1)))
struct FileTests {
  private static func chunks(_ count: Int) -> ByteStream {
    let left = Mutex(count)
    return AsyncThrowingStream<ByteBuffer, any Error>(unfolding: {
      left.withLock { left in
        left -= 1
        return left >= 0 ? FakeGuestFiles.chunk : nil
      }
    })
  }

  private static func size(_ body: ByteStream) async throws -> Int {
    var size = 0
    for try await chunk in body { size += chunk.readableBytes }
    return size
  }

  @Test("an upload arrives complete, with its path and user escaped")
  func upload() async throws {
    try await FakeGuestAgent.run { guest in
      try await guest.client.writeFile("/tmp/a b&c=?é%", user: "ana+x", body: Self.chunks(100))
      let (request, received) = try #require(guest.record.requests.withLock { $0.last })
      #expect(String(buffer: received) == "6553600 \(UInt8(truncatingIfNeeded: 7 * 6_553_600))")
      #expect(request.uri.queryParameters["path"] == "/tmp/a b&c=?é%")
      #expect(request.uri.queryParameters["username"] == "ana+x")
      #expect(request.headers[.contentType] == "application/octet-stream")
    }
  }

  @Test("an empty file can be uploaded")
  func emptyUpload() async throws {
    try await FakeGuestAgent.run { guest in
      try await guest.client.writeFile("/a", user: nil, body: Self.chunks(0))
      #expect(guest.record.requests.withLock { $0.last.map { String(buffer: $0.1) } } == "0 0")
    }
  }

  @Test("a full disk is insufficient_storage, also during an upload", arguments: [1, 2_000])
  func fullDisk(count: Int) async throws {
    try await FakeGuestAgent.run { guest in
      let error = await #expect(throws: MartletError.self) {
        try await guest.client.writeFile("full", user: nil, body: Self.chunks(count))
      }
      #expect(error?.code == .insufficientStorage)
    }
  }

  @Test("the error of an upload's source is thrown")
  func sourceError() async throws {
    try await FakeGuestAgent.run { guest in
      let body = AsyncThrowingStream<ByteBuffer, any Error> { continuation in
        continuation.yield(FakeGuestFiles.chunk)
        continuation.finish(throwing: MartletError(.tooLarge, "too much"))
      }
      let error = await #expect(throws: MartletError.self) {
        try await guest.client.writeFile("/a", user: nil, body: body)
      }
      #expect(error?.code == .tooLarge)
    }
  }

  @Test("an upload fails when the guest reads nothing, but not when its source is slow")
  func uploadIdle() async throws {
    var limits = GuestLimits()
    limits.streamIdle = .milliseconds(600)
    try await FakeGuestAgent.run(limits: limits) { guest in
      let error = await #expect(throws: MartletError.self) {
        try await guest.client.writeFile("sleep", user: nil, body: Self.chunks(1_000))
      }
      #expect(error?.code == .agentError)
      let slow = AsyncThrowingStream<ByteBuffer, any Error> { continuation in
        continuation.yield(FakeGuestFiles.chunk)
        Task {
          try? await Task.sleep(for: .milliseconds(1_500))
          continuation.finish()
        }
      }
      try await guest.client.writeFile("/a", user: nil, body: slow)
    }
  }

  @Test("a download reports its size and delivers every byte", arguments: ["sized", "unsized"])
  func download(path: String) async throws {
    try await FakeGuestAgent.run { guest in
      let file = try await guest.client.readFile(path, user: nil)
      let expected: Int64? = path == "sized" ? 3 * 65_536 : nil
      #expect(file.sizeBytes == expected)
      #expect(try await Self.size(file.body) == 3 * 65_536)
      let headers = try #require(guest.record.requests.withLock { $0.last?.0.headers })
      #expect(headers[.acceptEncoding] == "identity")
    }
  }

  @Test("a truncated download throws, with a known size and without", arguments: ["short", "cut"])
  func truncated(path: String) async throws {
    try await FakeGuestAgent.run { guest in
      let file = try await guest.client.readFile(path, user: nil)
      let error = await #expect(throws: MartletError.self) { try await Self.size(file.body) }
      #expect(error?.code == .agentError)
    }
  }

  @Test("a stalled download throws after the idle limit")
  func stalled() async throws {
    var limits = GuestLimits()
    limits.streamIdle = .milliseconds(600)
    try await FakeGuestAgent.run(limits: limits) { guest in
      let file = try await guest.client.readFile("stall", user: nil)
      let error = await #expect(throws: MartletError.self) { try await Self.size(file.body) }
      #expect(error?.code == .agentError)
    }
  }

  @Test("interrupting a download throws at once to its reader, after the bytes that had arrived")
  func interrupted() async throws {
    try await FakeGuestAgent.run { guest in
      let file = try await guest.client.readFile("stall", user: nil)
      var received = 0
      let error = await #expect(throws: MartletError.self) {
        for try await chunk in file.body {
          received += chunk.readableBytes
          if received == FakeGuestFiles.chunk.readableBytes {
            file.interrupt(MartletError(.invalidState, "interrupted"))
          }
        }
      }
      #expect(received == FakeGuestFiles.chunk.readableBytes && error?.code == .invalidState)
    }
  }

  @Test("a slow reader slows the guest down and gets every byte")
  func backPressure() async throws {
    try await FakeGuestAgent.run { guest in
      let file = try await guest.client.readFile("big", user: nil)
      try await Task.sleep(for: .milliseconds(500))
      #expect(guest.record.written.withLock { $0 } < 1_000)
      #expect(try await Self.size(file.body) == 4_000 * 65_536)
    }
  }

  @Test(
    "errors of the plain routes have their codes",
    arguments: [("missing", ErrorCode.notFound), ("user", .invalidRequest)])
  func refusals(path: String, code: ErrorCode) async throws {
    try await FakeGuestAgent.run { guest in
      let error = await #expect(throws: MartletError.self) { try await guest.client.readFile(path, user: "x") }
      #expect(error?.code == code)
    }
  }

  @Test("entries keep size, time and kind")
  func entries() async throws {
    try await FakeGuestAgent.run { guest in
      let link = try await guest.client.fileStatus("/a", user: nil)
      #expect(link.kind == .symlink)
      #expect(link.symlinkTarget == "/b")
      #expect(link.sizeBytes == 5_000_000_000)
      #expect(link.modifiedAt == Date(timeIntervalSince1970: 1_700_000_000.5))
      let entries = try await guest.client.listDirectory("/d", depth: 3, user: nil)
      #expect(entries.map(\.path) == ["/d/0", "/d/1", "/d/2"])
      #expect(entries.allSatisfy { $0.kind == .file && $0.mode == 0o644 && $0.symlinkTarget == nil })
      #expect(try await guest.client.listDirectory("/d", depth: -1, user: nil).count == 1)
      #expect(try await guest.client.makeDirectory("/n", user: nil).path == "/n")
      #expect(try await guest.client.renameFile(from: "/n", to: "/m", user: nil).path == "/m")
      try await guest.client.removeFile("/m", user: nil)
      #expect(try await guest.client.fileStatus("whoami", user: "ana").owner == "Basic YW5hOg==")
    }
  }

  @Test("errors of the file service have their codes")
  func serviceRefusals() async throws {
    try await FakeGuestAgent.run { guest in
      let missing = await #expect(throws: MartletError.self) { try await guest.client.fileStatus("missing", user: nil) }
      #expect(missing?.code == .notFound)
      let full = await #expect(throws: MartletError.self) { try await guest.client.fileStatus("full", user: nil) }
      #expect(full?.code == .insufficientStorage)
      let there = await #expect(throws: MartletError.self) { try await guest.client.makeDirectory("there", user: nil) }
      #expect(there?.code == .alreadyExists)
    }
  }
}
