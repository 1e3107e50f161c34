import Glibc
package import NIOCore
import NIOPosix

/// Thrown if the reader of the output has closed the pipe (EPIPE).
struct OutputClosed: Error {}

/// A failed system call on a local file or terminal.
struct OperatingSystemError: Error, CustomStringConvertible {
  let subject: String
  let code: Int32

  init(_ subject: String, code: Int32 = errno) {
    self.subject = subject
    self.code = code
  }

  var description: String { "\(subject): \(String(cString: strerror(code)))" }
}

/// Standard output and standard error. A slow reader blocks a thread of NIO's pool, never the cooperative pool.
package struct Console: Sendable {
  package let output: Int32
  package let error: Int32
  let allowsColor: Bool

  var isErrorTerminal: Bool { isatty(error) == 1 }
  var usesColor: Bool { allowsColor && isatty(output) == 1 }

  package func print(_ text: String) async throws {
    try await write(ByteBuffer(string: text.hasSuffix("\n") ? text : text + "\n"), to: output)
  }

  func printError(_ text: String) async {
    // If standard error is closed too, the message cannot be reported.
    try? await write(ByteBuffer(string: text.hasSuffix("\n") ? text : text + "\n"), to: error)
  }

  /// Writes to standard error without a line break.
  func prompt(_ text: String) async {
    try? await write(ByteBuffer(string: text), to: error)
  }

  /// Prints a warning or error with the prefix `martlet: `.
  func complain(_ message: String) async {
    // The message may quote text from a sandbox or a server; control characters must not reach the terminal.
    await printError("martlet: \(Table.printableLines(message))")
  }

  /// Writes all bytes; returns when the kernel has accepted them.
  /// - Throws: `OutputClosed`, `OperatingSystemError`.
  package func write(_ bytes: ByteBuffer, to descriptor: Int32) async throws {
    guard bytes.readableBytes > 0 else { return }
    try await NIOThreadPool.singleton.runIfActive { try Self.writeAll(bytes, to: descriptor) }
  }

  private static func writeAll(_ bytes: ByteBuffer, to descriptor: Int32) throws {
    try bytes.withUnsafeReadableBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
        guard count < 0 else {
          rest = rest.dropFirst(count)
          continue
        }
        switch errno {
        case EINTR: continue
        case EAGAIN:
          // The inherited descriptor is non-blocking; wait until it is writable.
          var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
          _ = poll(&waiting, 1, -1)
        case EPIPE: throw OutputClosed()
        default: throw OperatingSystemError("cannot write output")
        }
      }
    }
  }
}
