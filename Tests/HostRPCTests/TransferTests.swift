import Concurrency
import Foundation
import HostAPI
import HostRPC
import Model
import NIOCore
import TestSupport
import Testing

/// File contents on their way to and from another host arrive completely or end with an error, and use bounded memory.
@Suite struct TransferTests {
  /// The maximum number of bytes between source and sink: the buffers of two sockets, as large as the kernel lets them
  /// grow while the reader is fast, and those of the programs.
  private static let mostUnderWay = largestBuffer("tcp_rmem") + largestBuffer("tcp_wmem") + (24 << 20)
  private static let size = 2 * mostUnderWay / piece.readableBytes * piece.readableBytes
  private static let piece = TransferHost.pattern

  private let host = TransferHost()
  private let id = SandboxID()

  /// A source of `size` bytes that counts how many were read.
  private func source(_ counter: Counter) -> AsyncThrowingStream<ByteBuffer, any Error> {
    AsyncThrowingStream { counter.add(Self.piece.readableBytes, upTo: Self.size) ? Self.piece : nil }
  }

  @Test("an upload waits for a slow host, and arrives completely")
  func upload() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      let asked = Counter()
      let upload = Task { try await served.client.writeFile("/big", user: "u", body: source(asked), in: id) }
      #expect(try await eventually { host.taken.value > 0 })
      // The host stops after the first part; all bytes that are read from then on are in transit.
      try await settle(asked)
      #expect(asked.value < Self.mostUnderWay, "\(asked.value) of \(Self.size)")
      host.release()
      try await upload.value
      #expect(host.taken.value == Self.size && host.isIntact)
      #expect(host.target == "/big u \(id)")
    }
  }

  @Test("a download waits for a slow reader, and arrives completely")
  func download() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      host.offer(Self.size) { source($0) }
      let download = try await served.client.readFile("/big", user: nil, in: id)
      #expect(download.sizeBytes == Int64(Self.size))
      var pieces = download.body.makeAsyncIterator()
      var received = try await pieces.next(isolation: nil)?.readableBytes ?? 0
      try await settle(host.offered)
      #expect(host.offered.value < Self.mostUnderWay, "\(host.offered.value) of \(Self.size)")
      while let piece = try await pieces.next(isolation: nil) { received += piece.readableBytes }
      #expect(received == Self.size)
    }
  }

  @Test("an upload whose source fails is never taken for a shorter file, and the source's error is thrown")
  func brokenSource() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      host.release()
      let sent = Counter()
      let body = AsyncThrowingStream<ByteBuffer, any Error> {
        guard sent.add(Self.piece.readableBytes, upTo: 10 * Self.piece.readableBytes) else {
          throw MartletError(.tooLarge, "the tenant's")
        }
        return Self.piece
      }
      #expect(await code { try await served.client.writeFile("/x", user: nil, body: body, in: id) } == .tooLarge)
      #expect(try await eventually { host.broken.value == 1 })
      #expect(host.whole.value == 0)
    }
  }

  @Test("a refusal in the middle of an upload is reported, and the source is no longer read")
  func refused() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      host.refuse(with: MartletError(.insufficientStorage, "the disk is full"))
      let asked = Counter()
      let endless = AsyncThrowingStream<ByteBuffer, any Error> {
        asked.add(Self.piece.readableBytes)
        return Self.piece
      }
      #expect(
        await code { try await served.client.writeFile("/x", user: nil, body: endless, in: id) } == .insufficientStorage
      )
      #expect(
        try await eventually {
          let before = asked.value
          try await Task.sleep(for: .milliseconds(100))
          return asked.value == before
        })
    }
  }

  @Test("a download that fails on the host throws after the bytes before the failure")
  func brokenDownload() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      host.offer(Self.size) { counter in
        AsyncThrowingStream {
          guard counter.add(Self.piece.readableBytes, upTo: 3 * Self.piece.readableBytes) else {
            throw MartletError(.agentError, "the guest went away")
          }
          return Self.piece
        }
      }
      let download = try await served.client.readFile("/big", user: nil, in: id)
      var received = 0
      let failure = await code { for try await piece in download.body { received += piece.readableBytes } }
      #expect(failure == .agentError && received == 3 * Self.piece.readableBytes)
    }
  }

  @Test("releasing a download ends it on the host")
  func abandoned() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      host.offer(Self.size) { source($0) }
      var download: FileDownload? = try await served.client.readFile("/big", user: nil, in: id)
      #expect(download?.sizeBytes != nil)
      download = nil
      try await settle(host.offered)
      #expect(host.offered.value < Self.size)
    }
  }

  /// The last of three numbers, in bytes (tcp(7)).
  private static func largestBuffer(_ name: String) -> Int {
    let text = (try? String(contentsOfFile: "/proc/sys/net/ipv4/\(name)", encoding: .utf8)) ?? ""
    return text.split(whereSeparator: \.isWhitespace).last.flatMap { Int($0) } ?? 0
  }

  /// Waits until no more bytes are transferred.
  private func settle(_ counter: Counter) async throws {
    var (last, still) = (-1, 0)
    while still < 20 {
      still = counter.value == last ? still + 1 : 0
      last = counter.value
      try await Task.sleep(for: .milliseconds(10))
    }
  }
}

/// Counts bytes.
final class Counter: Sendable {
  private let count = Mutex(0)

  var value: Int { count.withLock { $0 } }

  /// - Returns: false, without adding anything, if the total would exceed `limit`.
  @discardableResult
  func add(_ bytes: Int, upTo limit: Int = .max) -> Bool {
    count.withLock { count in
      guard count < limit else { return false }
      count += bytes
      return true
    }
  }
}
