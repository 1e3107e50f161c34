import Glibc
import NIOCore
import NIOPosix

/// Reads from a descriptor that may block for ever, on a thread of its own, one chunk per call.
final class InputReader: Sendable {
  private let descriptor: Int32
  private let wakeRead: Int32
  private let wakeWrite: Int32
  private let pool = NIOThreadPool(numberOfThreads: 1)

  /// - Throws: `OperatingSystemError` if no descriptors are left.
  init(_ descriptor: Int32) throws {
    var pair: [Int32] = [-1, -1]
    // A socket pair instead of a pipe, because Swift does not import pipe2(2), which supports O_CLOEXEC.
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &pair) == 0 else { throw OperatingSystemError("cannot make a socket pair") }
    self.descriptor = descriptor
    (wakeRead, wakeWrite) = (pair[0], pair[1])
    pool.start()
  }

  /// - Returns: the next bytes, at most `maximumBytes`; nil at the end of the input or if the task is cancelled.
  /// - Throws: `OperatingSystemError`.
  func read(maximumBytes: Int) async throws -> ByteBuffer? {
    try await withTaskCancellationHandler {
      do {
        return try await pool.runIfActive { try self.blockingRead(maximumBytes: maximumBytes) }
      } catch is CancellationError {
        return nil
      }
    } onCancel: {
      wake()
    }
  }

  /// Ends the thread and closes its descriptors; the one that is read stays open.
  func close() async {
    wake()
    try? await pool.shutdownGracefully()
    Glibc.close(wakeRead)
    Glibc.close(wakeWrite)
  }

  /// Ends the current and all later reads: the byte stays in the socket.
  private func wake() {
    var byte: UInt8 = 1
    _ = Glibc.write(wakeWrite, &byte, 1)
  }

  private func blockingRead(maximumBytes: Int) throws -> ByteBuffer? {
    while true {
      var waiting = [
        pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: wakeRead, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&waiting, 2, -1) >= 0 else {
        if errno == EINTR { continue }
        throw OperatingSystemError("cannot wait for standard input")
      }
      guard waiting[1].revents == 0 else { return nil }
      // A descriptor that is not open is an input at its end.
      guard waiting[0].revents & Int16(POLLNVAL) == 0 else { return nil }
      var buffer = ByteBufferAllocator().buffer(capacity: maximumBytes)
      var result = 0
      buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: maximumBytes) { bytes in
        result = Glibc.read(descriptor, bytes.baseAddress, maximumBytes)
        return max(0, result)
      }
      if result > 0 { return buffer }
      guard result < 0 else { return nil }
      let code = errno
      if code == EINTR || code == EAGAIN { continue }
      // A terminal reports EIO when its other side has closed. Other errors are not an end of input, because truncated
      // input would pass for the whole.
      guard code == EIO, isatty(descriptor) == 1 else {
        throw OperatingSystemError("cannot read standard input", code: code)
      }
      return nil
    }
  }
}
