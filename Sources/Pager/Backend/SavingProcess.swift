import Concurrency
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// A process that is ready to save a VM's memory, and saves it when told to.
///
/// It starts while the guest still runs, so that the guest does not stand still for the start of a process and the
/// opening of layers.
final class SavingProcess: MemorySaving {
  /// Of which the memory is written at the least, on top of `shortest`; a large guest takes its time (L-24).
  private static let bytesPerSecond: Int64 = 20_000_000
  private static let shortest: Duration = .seconds(60)

  private let child: ChildProcess
  private let deadline: Duration
  /// Tells the process to begin; at its end without a byte, also when this program is killed, the process goes without
  /// a trace.
  private let order: OwnedDescriptor
  private let answers: OwnedDescriptor
  private let isOver = Mutex(false)

  init(executable: FilePath, arguments: SavingArguments, log: FilePath) throws {
    let log = try OwnedDescriptor.open(log.string, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600)
    let input = try OwnedDescriptor.pipe()
    let output = try OwnedDescriptor.pipe()
    var request = SpawnRequest(
      executable: executable.string, arguments: arguments.encoded, environment: ["PATH": "/usr/bin:/bin"],
      workingDirectory: "/",
      descriptors: [0: input.read.rawValue, 1: output.write.rawValue, 2: log.rawValue])
    // A terminal's Ctrl-C ends the agent in its own time, and not this.
    request.createsSession = true
    request.limits = [(Int32(RLIMIT_CORE.rawValue), 0, 0)]
    child = try ChildProcess.spawn(request)
    withExtendedLifetime((input.read, output.write, log)) {}
    order = input.write
    answers = output.read
    deadline = Self.shortest + .seconds(arguments.memoryBytes / Self.bytesPerSecond)
  }

  deinit {
    abandonBlocking()
  }

  func run() async throws -> SavedMemory {
    try await BlockingPool.shared.run { try self.runBlocking() }
  }

  func abandon() async {
    await BlockingPool.shared.run { self.abandonBlocking() }
  }

  /// On a throw the process is gone.
  private func runBlocking() throws -> SavedMemory {
    guard begins() else { throw MartletError(.internalError, "the sandbox's memory is saved once") }
    // One that ended already has said why.
    _ = write(order.rawValue, [UInt8(1)], 1)
    order.close()
    let ended = awaitEnd()
    if !ended { child.signal(SIGKILL) }
    let status = child.reapBlocking()
    switch answer() {
    case .saved(let memory) where status == .exited(0): return memory
    case .failed(let code, let sentence): throw MartletError(code, sentence)
    default:
      throw MartletError(
        .internalError, ended ? "the sandbox's memory could not be saved" : "saving the sandbox's memory took too long")
    }
  }

  private func abandonBlocking() {
    guard begins() else { return }
    order.close()
    child.signal(SIGKILL)
    _ = child.reapBlocking()
  }

  private func begins() -> Bool {
    isOver.withLock { isOver in
      defer { isOver = true }
      return !isOver
    }
  }

  private func awaitEnd() -> Bool {
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
  private func answer() -> SavingAnswer? {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = read(answers.rawValue, &buffer, buffer.count)
    guard count > 0 else { return nil }
    return SavingAnswer(line: String(decoding: buffer[0..<count], as: UTF8.self))
  }
}
