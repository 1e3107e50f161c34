import Glibc
import LinuxSystem
package import Logging
package import Model
package import Snapshots
package import SystemPackage

/// Serves the memory of guests with one `martlet pager` process per VM.
///
/// A pager has a session of its own and outlives the host agent. It ends when its VM ends, and ends its VM when it
/// cannot serve a page. The host agent only starts, adopts and replaces pagers.
package struct ProcessMemoryBackend: MemoryBackend {
  /// Time within which a replacement must serve faults.
  private static let replacementDeadline: Duration = .seconds(20)
  package static let logName = "pager.log"

  private let executable: FilePath
  private let store: SnapshotStore
  private let logger: Logger

  /// - Parameters:
  ///   - executable: a program that passes command lines beginning with `PagerArguments.command` to `PagerProgram.run`.
  ///   - store: the store that holds the parents of saved memories.
  package init(executable: FilePath, store: SnapshotStore, logger: Logger) {
    self.executable = executable
    self.store = store
    self.logger = logger
  }

  /// The socket listens before the pager runs, so that the VMM can start at the same time; its hand-shake waits for the
  /// pager. A generation that cannot be opened is not an error here: the pager refuses the VMM and reports the reason
  /// when it exits.
  package func launch(_ configuration: PagerConfiguration) async throws -> any PagerProcess {
    try await BlockingPool.shared.run { try start(PagerArguments(configuration), readiness: nil) }
  }

  package func adopt(_ identity: PagerIdentity, runDirectory: FilePath) async throws -> (any PagerProcess)? {
    guard let handle = try ProcessHandle.open(pid: identity.pid, startTimeTicks: identity.startTimeTicks) else {
      return nil
    }
    return RunningPager(handle, runDirectory: runDirectory)
  }

  package func replace(_ configuration: PagerConfiguration, vmm: Int32) async throws -> any PagerProcess {
    let (read, write) = try OwnedDescriptor.pipe()
    let pager = try await BlockingPool.shared.run {
      try start(PagerArguments(configuration, vmm: vmm), readiness: write)
    }
    write.close()
    let isServing = await BlockingPool.shared.run { Self.awaitByte(read, deadline: Self.replacementDeadline) }
    guard isServing else {
      try await pager.kill()
      let reason = try await pager.waitForExit().failure
      throw MartletError(.internalError, reason ?? "the sandbox's memory could not be taken over")
    }
    return pager
  }

  package func findOrphans(of id: InstanceID) throws -> [PagerIdentity] {
    try ProcessTable.pids().compactMap { pid in
      guard PagerArguments.matches(try ProcessTable.arguments(of: pid), id) else { return nil }
      return try ProcessTable.startTimeTicks(of: pid).map { PagerIdentity(pid: pid, startTimeTicks: $0) }
    }
  }

  package func prepareSaving(
    vmm: Int32, runDirectory: FilePath, memoryBytes: Int64, parent: Generation?, into draft: GenerationDraft
  ) async throws -> any MemorySaving {
    let arguments = SavingArguments(
      store: store.directory, draft: draft.id, draftDirectory: draft.directory, runDirectory: runDirectory, vmm: vmm,
      memoryBytes: memoryBytes, parent: parent?.id)
    return try await BlockingPool.shared.run { [executable] in
      try SavingProcess(executable: executable, arguments: arguments, log: runDirectory.appending(Self.logName))
    }
  }

  /// Starts the process. Blocks.
  private func start(_ arguments: PagerArguments, readiness: OwnedDescriptor?) throws -> RunningPager {
    let configuration = arguments.configuration
    PagerFailureFile.remove(in: configuration.runDirectory)
    let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    let log = try OwnedDescriptor.open(
      configuration.runDirectory.appending(Self.logName).string, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600
    )
    var request = SpawnRequest(
      executable: executable.string, arguments: arguments.encoded, environment: ["PATH": "/usr/bin:/bin"],
      workingDirectory: "/",
      descriptors: [0: null.rawValue, 1: log.rawValue, 2: log.rawValue])
    request.createsSession = true
    // A core dump would contain the guest's memory.
    request.limits = [(Int32(RLIMIT_CORE.rawValue), 0, 0)]
    let socket =
      arguments.vmm == nil
      ? try UnixSocket.listen(
        PagerConfiguration.socketName, in: configuration.runDirectory, owner: configuration.ownerUID) : nil
    if let socket { request.descriptors[PagerArguments.socketDescriptor] = socket.descriptor.rawValue }
    if let readiness { request.descriptors[PagerArguments.readinessDescriptor] = readiness.rawValue }
    let child = try ChildProcess.spawn(request)
    withExtendedLifetime((null, log, socket, readiness)) {}
    let handle: ProcessHandle?
    do {
      handle = try ProcessHandle.of(child)
    } catch {
      child.signal(SIGKILL)
      _ = child.reapBlocking()
      throw error
    }
    guard let handle else {
      _ = child.reapBlocking()
      throw MartletError(.internalError, "the sandbox's memory could not be served: the pager ended at once")
    }
    let pager = RunningPager(handle, runDirectory: configuration.runDirectory)
    // Reaps the pager even if no other task waits for its end. It ends with its VM.
    Task { _ = try? await pager.waitForExit() }
    return pager
  }

  private static func awaitByte(_ descriptor: OwnedDescriptor, deadline: Duration) -> Bool {
    var polled = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    let milliseconds = Int32(deadline.components.seconds * 1_000)
    while true {
      let count = poll(&polled, 1, milliseconds)
      if count < 0 && errno == EINTR { continue }
      var byte: UInt8 = 0
      return count == 1 && read(descriptor.rawValue, &byte, 1) == 1
    }
  }
}
