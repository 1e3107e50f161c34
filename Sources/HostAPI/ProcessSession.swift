package import NIOCore

/// A caller's connection to a process in a guest.
package protocol ProcessSession: Sendable {
  var pid: UInt32 { get }
  /// `started`, then output, then `exited` as the last element; may be iterated once. Throws if the connection is lost.
  /// Slow consumers slow the process down (back pressure); no output is dropped.
  var events: any AsyncSequence<ProcessEvent, any Error> & Sendable { get }
  /// Writes to standard input or the terminal; returns when the guest has accepted the bytes.
  func write(_ bytes: ByteBuffer) async throws
  func closeStandardInput() async throws
  func resize(_ size: TerminalSize) async throws
  /// Signals the process and everything in its process group.
  func signal(_ signal: Int32) async throws
  /// Ends the session. The process continues unless `killing` is true. Idempotent.
  func detach(killing: Bool) async
}

package enum ProcessEvent: Sendable, Equatable {
  case started(pid: UInt32)
  case output(OutputStream, ByteBuffer)
  case exited(ProcessExit)

  package enum OutputStream: String, Sendable {
    case standardOutput
    case standardError
    case terminal
  }
}

package struct ProcessExit: Sendable, Equatable {
  /// The exit status, or 128 + signal number when a signal ended the process (the shell's convention).
  package var exitCode: Int32
  /// The number of the signal that ended the process.
  package var signal: Int32?
  /// Whether the process was killed because its time-out passed.
  package var isTimeout: Bool

  package init(exitCode: Int32, signal: Int32? = nil, isTimeout: Bool = false) {
    self.exitCode = exitCode
    self.signal = signal
    self.isTimeout = isTimeout
  }
}
