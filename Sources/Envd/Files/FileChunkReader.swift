import Concurrency
import Glibc
import LinuxSystem
import NIOCore

/// Reads a part of an open file in large pieces, for one consumer.
///
/// The buffers go round: one is filled again once the connection has let go of it, so that a transfer of any length
/// uses a handful of them (and touches no fresh memory, which is what large reads cost most under emulation).
final class FileChunkReader: Sendable {
  static let chunkBytes = 524_288
  /// One being filled, one waiting, one on its way through the socket, one in reserve.
  static let bufferCount = 4

  private struct State {
    var buffers: [ByteBuffer] = []
    var next = 0
    var offset: Int64
    /// Nil means until the end of the file, wherever that is.
    var remaining: Int64?
  }

  private let descriptor: OwnedDescriptor
  private let path: String
  private let state: Mutex<State>

  /// - Parameter length: bytes to read; nil for files that do not know their size (/proc).
  init(_ descriptor: OwnedDescriptor, path: String, offset: Int64, length: Int64?) {
    self.descriptor = descriptor
    self.path = path
    state = Mutex(State(offset: offset, remaining: length))
  }

  /// Blocks. Empty at the end.
  /// - Throws: `internalError` when the file has become shorter than `length`: what was promised cannot be delivered.
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
    state.buffers[state.next].writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) { room in
      do {
        count = try SystemError.check("read", path) {
          pread(descriptor.rawValue, room.baseAddress, wanted, off_t(offset))
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
