import APIClient
import Glibc
import NIOCore
import Testing

@testable import CommandLine

/// Both ends of a pseudo-terminal.
private struct PseudoTerminal: ~Copyable {
  let master: Int32
  let slave: Int32

  init() throws {
    // Uses the ioctls TIOCSPTLCK and TIOCGPTN, because Swift does not import posix_openpt(3).
    let master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
    var (unlocked, number): (Int32, Int32) = (0, 0)
    let isReady = ioctl(master, 0x4004_5431, &unlocked) == 0 && ioctl(master, 0x8004_5430, &number) == 0
    let slave = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
    (self.master, self.slave) = (master, slave)
    try #require(isReady && slave >= 0)
  }

  deinit {
    close(slave)
    close(master)
  }
}

@Suite("Terminals", .timeLimit(.minutes(1)))
struct TerminalTests {
  private func localFlags(_ descriptor: Int32) -> UInt32 {
    var mode = termios()
    tcgetattr(descriptor, &mode)
    return mode.c_lflag
  }

  @Test("raw mode is reset, whether the closure succeeds or throws")
  func restored() async throws {
    struct Failed: Error {}
    let pair = try PseudoTerminal()
    let slave = pair.slave
    let terminal = try #require(Terminal(slave))
    let before = localFlags(slave)
    #expect(before & UInt32(ECHO | ICANON) != 0)
    let inside = try await terminal.withRawMode { localFlags(slave) }
    #expect(inside & UInt32(ECHO | ICANON | ISIG) == 0)
    #expect(localFlags(slave) == before)
    await #expect(throws: Failed.self) { try await terminal.withRawMode { throw Failed() } }
    #expect(localFlags(slave) == before)
  }

  @Test("a size of zero counts as unknown")
  func size() throws {
    let pair = try PseudoTerminal()
    let terminal = try #require(Terminal(pair.slave))
    #expect(terminal.size == nil)
    var size = winsize(ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0)
    #expect(ioctl(pair.master, UInt(TIOCSWINSZ), &size) == 0)
    #expect(terminal.size == .init(cols: 132, rows: 50))
  }

  @Test("a file is not a terminal")
  func file() {
    #expect(Terminal(-1) == nil)
  }
}

@Suite("Reading input", .timeLimit(.minutes(1)))
struct InputReaderTests {
  @Test("bytes arrive as they are written, then the end of input")
  func reads() async throws {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let reader = try InputReader(ends[0])
    write(ends[1], "abc", 3)
    #expect(try await reader.read(maximumBytes: 10) == ByteBuffer(string: "abc"))
    close(ends[1])
    #expect(try await reader.read(maximumBytes: 10) == nil)
    await reader.close()
    close(ends[0])
  }

  @Test("cancelling the task ends a blocked read")
  func cancelled() async throws {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let reader = try InputReader(ends[0])
    let reading = Task { try await reader.read(maximumBytes: 10) }
    reading.cancel()
    #expect(try await reading.value == nil)
    await reader.close()
    for end in ends { close(end) }
  }

  @Test("a closed pipe is distinguished from other errors")
  func brokenPipe() async throws {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    close(ends[0])
    signal(SIGPIPE, SIG_IGN)
    let console = Console(output: ends[1], error: ends[1], allowsColor: false)
    await #expect(throws: OutputClosed.self) { try await console.print("x") }
    close(ends[1])
    await #expect(throws: OperatingSystemError.self) {
      try await Console(output: -1, error: -1, allowsColor: false).print("x")
    }
  }
}
