import Concurrency
import Hummingbird
import NIOCore

/// An answer of many mebibytes, handed to the connection in pieces, so that a client that does not read it is noticed.
enum LargeAnswer {
  /// Shorter answers are written at once.
  static let minimumBytes = 1_048_576
  private static let pieceBytes = 262_144
  /// How long a client may take none of it; then the connection is closed.
  private static let patience: TimeAmount = .seconds(60)

  /// - Parameter holding: released when all has been written, or the connection is gone.
  static func body(_ bytes: ByteBuffer, holding: some Sendable, on channel: any Channel) -> ResponseBody {
    ResponseBody(contentLength: bytes.readableBytes) { writer in
      let stall = StallWatch(channel, patience: patience)
      defer { stall.end() }
      var rest = bytes
      while let piece = rest.readSlice(length: min(pieceBytes, rest.readableBytes)), piece.readableBytes > 0 {
        try await writer.write(piece)
        stall.progress()
      }
      try await writer.finish(nil)
      withExtendedLifetime(holding) {}
    }
  }
}

/// Closes a connection on which nothing moves any more.
private final class StallWatch: Sendable {
  private let channel: any Channel
  private let patience: TimeAmount
  private let scheduled: Mutex<Scheduled<Void>?>

  init(_ channel: any Channel, patience: TimeAmount) {
    self.channel = channel
    self.patience = patience
    scheduled = Mutex(nil)
    progress()
  }

  func progress() {
    let next = channel.eventLoop.scheduleTask(in: patience) { [channel] in channel.close(promise: nil) }
    scheduled.withLock { scheduled in
      scheduled?.cancel()
      scheduled = next
    }
  }

  func end() {
    scheduled.withLock { $0 }?.cancel()
  }
}
