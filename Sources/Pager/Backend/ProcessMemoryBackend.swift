import Concurrency
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
  private let emptyNamespace = EmptyNamespace()

  /// A mount namespace without a file, made for the first process that enters it.
  private final class EmptyNamespace: Sendable {
    private let made = Mutex(MountNamespace?.none)

    func get() throws(SystemError) -> MountNamespace {
      try made.withLock { made throws(SystemError) in
        if let made { return made }
        let namespace = try MountNamespace.make([.protect("/", .data)])
        made = namespace
        return namespace
      }
    }
  }

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
    try await BlockingPool.shared.run { try launchBlocking(configuration) }
  }

  package func adopt(_ identity: PagerIdentity, runDirectory: FilePath) async throws -> (any PagerProcess)? {
    guard let handle = try ProcessHandle.open(pid: identity.pid, startTimeTicks: identity.startTimeTicks) else {
      return nil
    }
    // Its command line says which generation it serves.
    let arguments = PagerArguments(Array(try ProcessTable.arguments(of: identity.pid).dropFirst()))
    return RunningPager(
      handle, runDirectory: runDirectory,
      workingSet: arguments.map { store.workingSetPath(of: $0.configuration.generation) })
  }

  package func replace(_ configuration: PagerConfiguration, vmm: Int32) async throws -> any PagerProcess {
    let (read, write) = try OwnedDescriptor.pipe()
    let pager = try await BlockingPool.shared.run {
      guard let machine = try OwnedDescriptor.process(vmm), let faults = try UserFaultDescriptor.taken(from: vmm) else {
        throw MartletError(
          .internalError, "the sandbox's memory could not be taken over: the VMM has ended or has no userfaultfd")
      }
      return try start(
        PagerArguments(configuration, vmm: vmm),
        passing: [
          PagerArguments.readinessDescriptor: write, PagerArguments.machineDescriptor: machine,
          PagerArguments.userfaultDescriptor: faults.copyForChild(),
        ])
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
    return try await BlockingPool.shared.run { [executable, emptyNamespace] in
      try SavingProcess(
        executable: executable, arguments: arguments, log: runDirectory.appending(Self.logName),
        namespace: try emptyNamespace.get())
    }
  }

  private func launchBlocking(_ configuration: PagerConfiguration) throws -> RunningPager {
    var configuration = configuration
    let listener = try UnixSocket.listen(
      PagerConfiguration.socketName, in: configuration.runDirectory, owner: configuration.ownerUID)
    var passed = [PagerArguments.socketDescriptor: listener.descriptor]
    // What exists is pushed, and not recorded again.
    let workingSet = store.workingSetPath(of: configuration.generation)
    if configuration.recordsWorkingSet, try FileStatus.of(workingSet.string, followingLinks: false) == nil {
      passed[PagerArguments.recordingDescriptor] = try startRecorder(configuration)
    } else {
      configuration.recordsWorkingSet = false
    }
    return try start(PagerArguments(configuration), passing: passed)
  }

  /// Starts the process; blocks.
  /// - Parameter passed: child descriptor number → descriptor.
  private func start(_ arguments: PagerArguments, passing passed: [Int32: OwnedDescriptor]) throws -> RunningPager {
    let configuration = arguments.configuration
    PagerFailureFile.remove(in: configuration.runDirectory)
    let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    let log = try openLog(configuration)
    let namespace = try emptyNamespace.get()
    var request = SpawnRequest(
      executable: executable.string, arguments: arguments.encoded, environment: ["PATH": "/usr/bin:/bin"],
      workingDirectory: "/",
      descriptors: [
        0: null.rawValue, 1: log.rawValue, 2: log.rawValue,
        PagerArguments.namespaceDescriptor: namespace.descriptor.rawValue,
      ].merging(passed.mapValues(\.rawValue)) { $1 })
    request.createsSession = true
    // A core dump would contain the guest's memory.
    request.limits = [(Int32(RLIMIT_CORE.rawValue), 0, 0)]
    request.forbidsNewPrivileges = true
    request.fileModeMask = 0o077
    request.cgroups = try configuration.cgroup?.joinDescriptors() ?? []
    let child = try ChildProcess.spawn(request)
    withExtendedLifetime((null, log, passed, namespace)) {}
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
    let pager = RunningPager(
      handle, runDirectory: configuration.runDirectory, workingSet: store.workingSetPath(of: configuration.generation))
    // Reaps the pager even if no other task waits for its end. It ends with its VM.
    Task { _ = try? await pager.waitForExit() }
    return pager
  }

  private func openLog(_ configuration: PagerConfiguration) throws(SystemError) -> OwnedDescriptor {
    try OwnedDescriptor.open(
      configuration.runDirectory.appending(Self.logName).string, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600
    )
  }

  /// Starts the process that writes what a pager records. It ends with the pager.
  /// - Returns: the pager's end of the pipe.
  private func startRecorder(_ configuration: PagerConfiguration) throws -> OwnedDescriptor {
    let (read, write) = try OwnedDescriptor.pipe()
    let log = try openLog(configuration)
    let arguments = RecordingArguments(store: configuration.store, generation: configuration.generation)
    var request = SpawnRequest(
      executable: executable.string, arguments: arguments.encoded, environment: ["PATH": "/usr/bin:/bin"],
      workingDirectory: "/", descriptors: [0: read.rawValue, 1: log.rawValue, 2: log.rawValue])
    request.createsSession = true
    request.limits = [(Int32(RLIMIT_CORE.rawValue), 0, 0)]
    request.forbidsNewPrivileges = true
    request.forbidsCapabilities = true
    request.fileModeMask = 0o077
    let child = try ChildProcess.spawn(request)
    withExtendedLifetime((read, log)) {}
    // Reaps it.
    Task { await child.wait() }
    return write
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
