import Concurrency
import Hummingbird
import NIOCore

/// Writes a response body of many mebibytes in chunks and closes the connection if the client stops reading.
enum LargeResponse {
  /// Shorter bodies are written at once.
  static let minimumBytes = 1_048_576
  private static let chunkBytes = 262_144
  /// Time without progress after which the connection is closed.
  private static let stallTimeout: TimeAmount = .seconds(60)

  /// - Parameter reservation: released after the body has been written or the connection has closed.
  static func body(_ bytes: ByteBuffer, reservation: some Sendable, on channel: any Channel) -> ResponseBody {
    ResponseBody(contentLength: bytes.readableBytes) { writer in
      let stall = WriteStallTimer(channel, stallTimeout: stallTimeout)
      defer { stall.end() }
      var rest = bytes
      while let chunk = rest.readSlice(length: min(chunkBytes, rest.readableBytes)), chunk.readableBytes > 0 {
        try await writer.write(chunk)
        stall.progress()
      }
      try await writer.finish(nil)
      withExtendedLifetime(reservation) {}
    }
  }
}

/// Closes a connection if `progress()` is not called within the time-out.
private final class WriteStallTimer: Sendable {
  private let channel: any Channel
  private let stallTimeout: TimeAmount
  private let scheduled: Mutex<Scheduled<Void>?>

  init(_ channel: any Channel, stallTimeout: TimeAmount) {
    self.channel = channel
    self.stallTimeout = stallTimeout
    scheduled = Mutex(nil)
    progress()
  }

  func progress() {
    let next = channel.eventLoop.scheduleTask(in: stallTimeout) { [channel] in channel.close(promise: nil) }
    scheduled.withLock { scheduled in
      scheduled?.cancel()
      scheduled = next
    }
  }

  func end() {
    scheduled.withLock { $0 }?.cancel()
  }
}
