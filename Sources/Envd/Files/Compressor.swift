import Concurrency
import NIOCore

/// A `Deflater` that several threads may use, one call at a time.
final class Compressor: Sendable {
  private let deflater: Mutex<Deflater>

  init() throws(FileFailure) {
    deflater = Mutex(try Deflater())
  }

  func compress(_ input: ByteBuffer, isLast: Bool) -> ByteBuffer {
    deflater.withLock { $0.compress(input, isLast: isLast) }
  }
}
