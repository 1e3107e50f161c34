import Glibc
import LinuxSystem
import Model
import SystemPackage

/// Runs a saving process to its end.
struct SavingProcess {
  /// Of which the memory is written at the least, on top of `shortest`; a large guest takes its time (L-24).
  private static let bytesPerSecond: Int64 = 20_000_000
  private static let shortest: Duration = .seconds(60)

  let executable: FilePath
  let arguments: SavingArguments
  let log: FilePath

  /// Blocks. On a throw the process is gone.
  func run() throws -> SavedMemory {
    let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    let log = try OwnedDescriptor.open(log.string, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600)
    let (read, write) = try OwnedDescriptor.pipe()
    var request = SpawnRequest(
      executable: executable.string, arguments: arguments.encoded, environment: ["PATH": "/usr/bin:/bin"], workingDirectory: "/",
      descriptors: [0: null.rawValue, 1: write.rawValue, 2: log.rawValue])
    // A terminal's Ctrl-C ends the agent in its own time, and not this.
    request.createsSession = true
    request.limits = [(Int32(RLIMIT_CORE.rawValue), 0, 0)]
    let child = try ChildProcess.spawn(request)
    withExtendedLifetime((null, log)) {}
    write.close()
    let ended = awaitEnd(of: child, deadline: Self.shortest + .seconds(arguments.memoryBytes / Self.bytesPerSecond))
    if !ended { child.signal(SIGKILL) }
    let status = child.reapBlocking()
    switch answer(from: read) {
    case .saved(let memory) where status == .exited(0): return memory
    case .failed(let code, let sentence): throw MartletError(code, sentence)
    default:
      throw MartletError(.internalError, ended ? "the sandbox's memory could not be saved" : "saving the sandbox's memory took too long")
    }
  }

  private func awaitEnd(of child: ChildProcess, deadline: Duration) -> Bool {
    let end = ContinuousClock.now + deadline
    while true {
      var polled = pollfd(fd: child.pidfd.rawValue, events: Int16(POLLIN), revents: 0)
      let left = ContinuousClock.now.duration(to: end).components.seconds
      let count = poll(&polled, 1, Int32(clamping: max(0, left) * 1_000 + 1))
      if count > 0 { return true }
      if count == 0 && ContinuousClock.now >= end { return false }
    }
  }

  /// The line is shorter than a pipe is deep, so that it can be read in the end.
  private func answer(from pipe: OwnedDescriptor) -> SavingAnswer? {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = read(pipe.rawValue, &buffer, buffer.count)
    guard count > 0 else { return nil }
    return SavingAnswer(line: String(decoding: buffer[0..<count], as: UTF8.self))
  }
}
