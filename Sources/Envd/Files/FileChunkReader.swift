import Concurrency
import Glibc
import LinuxSystem
import NIOCore

/// Reads a part of an open file in large chunks, for one consumer.
///
/// Buffers are reused once the connection has released them, so a transfer of any length uses only a few. New memory is
/// the largest cost of large reads under emulation.
final class FileChunkReader: Sendable {
  static let chunkBytes = 524_288
  /// One is being filled, one waits, one is being sent, one is in reserve.
  static let bufferCount = 4

  private struct State {
    var buffers: [ByteBuffer] = []
    var next = 0
    var offset: Int64
    /// nil means until the end of the file.
    var remaining: Int64?
  }

  private let descriptor: OwnedDescriptor
  private let path: String
  private let state: Mutex<State>

  /// - Parameter length: bytes to read; nil for files that report no size (/proc).
  init(_ descriptor: OwnedDescriptor, path: String, offset: Int64, length: Int64?) {
    self.descriptor = descriptor
    self.path = path
    state = Mutex(State(offset: offset, remaining: length))
  }

  /// The next chunk; empty at the end. Blocks.
  /// - Throws: `internalError` when the file has become shorter than `length`, which the client was promised.
  func next() throws(FileFailure) -> ByteBuffer {
    try state.withLock { (state) throws(FileFailure) in
      let wanted = Int(min(state.remaining ?? Int64(Self.chunkBytes), Int64(Self.chunkBytes)))
      guard wanted > 0 else { return ByteBuffer() }
      let count = try fill(&state, wanted: wanted)
      if count == 0, state.remaining != nil {
        throw FileFailure(.internalError, "path '\(path)' became shorter while it was read")
      }
      state.offset += Int64(count)
      state.remaining = state.remaining.map { $0 - Int64(count) }
      defer { state.next = (state.next + 1) % Self.bufferCount }
      return state.buffers[state.next]
    }
  }

  private func fill(_ state: inout State, wanted: Int) throws(FileFailure) -> Int {
    if state.buffers.count <= state.next { state.buffers.append(ByteBufferAllocator().buffer(capacity: wanted)) }
    var count = 0
    var failure: SystemError?
    let offset = state.offset
    state.buffers[state.next].clear(minimumCapacity: wanted)
    state.buffers[state.next].writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) { target in
      do {
        count = try SystemError.check("read", path) {
          pread(descriptor.rawValue, target.baseAddress, wanted, off_t(offset))
        }
      } catch {
        failure = error as? SystemError
      }
      return count
    }
    if let failure { throw FileFailure(failure, path: path) }
    return count
  }
}
