import Concurrency
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// A process that is prepared to save a VM's memory, and saves it on command.
///
/// It starts while the guest still runs, so that the guest is not stopped while a process starts and layers are opened.
final class SavingProcess: MemorySaving {
  /// Assumed lower bound of the write rate. The deadline is `shortest` plus the time for the whole memory at this rate,
  /// so that large guests get more time.
  private static let bytesPerSecond: Int64 = 20_000_000
  private static let shortest: Duration = .seconds(60)

  private let child: ChildProcess
  private let deadline: Duration
  /// Writing a byte starts the save. When the descriptor is closed without a byte, also because this program is killed,
  /// the process exits without changing anything.
  private let startSignal: OwnedDescriptor
  private let responses: OwnedDescriptor
  private let isOver = Mutex(false)

  /// - Parameter namespace: an empty one, for the process to enter.
  init(executable: FilePath, arguments: SavingArguments, log: FilePath, namespace: MountNamespace) throws {
    let log = try OwnedDescriptor.open(log.string, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600)
    let input = try OwnedDescriptor.pipe()
    let output = try OwnedDescriptor.pipe()
    var request = SpawnRequest(
      executable: executable.string, arguments: arguments.encoded, environment: ["PATH": "/usr/bin:/bin"],
      workingDirectory: "/",
      descriptors: [
        0: input.read.rawValue, 1: output.write.rawValue, 2: log.rawValue,
        PagerArguments.namespaceDescriptor: namespace.descriptor.rawValue,
      ])
    // In a session of its own, so that Ctrl-C in a terminal does not end it: the host agent ends it in an orderly way.
    request.createsSession = true
    request.limits = [(Int32(RLIMIT_CORE.rawValue), 0, 0)]
    request.forbidsNewPrivileges = true
    request.fileModeMask = 0o077
    child = try ChildProcess.spawn(request)
    withExtendedLifetime((input.read, output.write, log, namespace)) {}
    startSignal = input.write
    responses = output.read
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

  /// When this throws, the process has ended.
  private func runBlocking() throws -> SavedMemory {
    guard claim() else { throw MartletError(.internalError, "the sandbox's memory is saved once") }
    // If the process has ended already, its response contains the reason.
    _ = write(startSignal.rawValue, [UInt8(1)], 1)
    startSignal.close()
    let ended = awaitEnd()
    if !ended { child.signal(SIGKILL) }
    let status = child.reapBlocking()
    switch readResponse() {
    case .saved(let memory) where status == .exited(0): return memory
    case .failed(let code, let sentence): throw MartletError(code, sentence)
    default:
      throw MartletError(
        .internalError, ended ? "the sandbox's memory could not be saved" : "saving the sandbox's memory took too long")
    }
  }

  private func abandonBlocking() {
    guard claim() else { return }
    startSignal.close()
    child.signal(SIGKILL)
    _ = child.reapBlocking()
  }

  private func claim() -> Bool {
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

  /// The line is shorter than a pipe's capacity, so that it can be read after the process has ended.
  private func readResponse() -> SavingResponse? {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = read(responses.rawValue, &buffer, buffer.count)
    guard count > 0 else { return nil }
    return SavingResponse(line: String(decoding: buffer[0..<count], as: UTF8.self))
  }
}
