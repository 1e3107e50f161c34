import APIClient
import Glibc

/// The terminal that a descriptor refers to.
struct Terminal: Sendable {
  let descriptor: Int32

  /// Returns nil if the descriptor is not a terminal.
  init?(_ descriptor: Int32) {
    guard isatty(descriptor) == 1 else { return nil }
    self.descriptor = descriptor
  }

  /// The size; nil if it is unknown or zero.
  var size: ExecStart.Terminal? {
    var size = winsize()
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return nil }
    return ExecStart.Terminal(cols: Int(size.ws_col), rows: Int(size.ws_row))
  }

  /// Runs `body` with the terminal in raw mode, and restores the mode afterwards.
  ///
  /// - Throws: `OperatingSystemError` if the mode cannot be changed; it is then unchanged.
  func withRawMode<Result>(
    _ body: () async throws -> Result, isolation: isolated (any Actor)? = #isolation
  ) async throws -> Result {
    var saved = termios()
    guard tcgetattr(descriptor, &saved) == 0 else { throw OperatingSystemError("cannot read the terminal's mode") }
    var raw = saved
    cfmakeraw(&raw)
    guard tcsetattr(descriptor, TCSADRAIN, &raw) == 0 else {
      throw OperatingSystemError("cannot change the terminal's mode")
    }
    defer { restore(saved) }
    return try await body()
  }

  func restore(_ saved: termios) {
    var saved = saved
    // A background process that changes the terminal receives SIGTTOU, which would stop it before the mode is restored.
    let previous = signal(SIGTTOU, SIG_IGN)
    while tcsetattr(descriptor, TCSADRAIN, &saved) != 0, errno == EINTR {}
    signal(SIGTTOU, previous)
  }
}
