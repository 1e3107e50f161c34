import CLinux
import Glibc
import LinuxSystem
import Logging
import Model
import Snapshots
import SystemPackage

/// The program of a `martlet pager` process: serves the page faults of one VM until that VM ends.
///
/// ```
/// open all files ─▶ give up privileges ─▶ VMM connects, or is taken over ─▶ serve, push the working set ─▶ VM ended: 0
///    │ damaged                               │ refused                         │ damaged page: kill the VM
///    └───────────────────────────────────────┴── pager.failure, exit code 65 ──┘
/// ```
///
/// Nothing that comes from the VMM is looked at before the process has given up its privileges: it is then the VMM's
/// user, sees no file, and may only make the system calls that serving takes (`Confinement`).
package struct PagerProgram {
  private let arguments: PagerArguments
  private let failure: PagerFailureFile
  /// The signals are blocked and read from this descriptor, so that none is lost and none kills the process.
  private let signals: OwnedDescriptor
  private let logger: Logger

  /// First words of command lines that `run` takes.
  package static let commands: Set<String> = [PagerArguments.command, RecordingArguments.command]

  /// Performs a command line that begins with one of `commands`.
  /// - Returns: the exit code of the process.
  package static func run(_ words: [String]) -> Int32 {
    umask(0o077)
    if let saving = SavingArguments(words) { return SavingProgram(saving).run() }
    if let recording = RecordingArguments(words) { return RecordingProgram(recording).run() }
    var logger = Logger(label: "martlet.pager")
    guard let arguments = PagerArguments(words) else {
      logger.error("this command is for internal use by martlet only")
      return PagerExitCode.usage.rawValue
    }
    logger[metadataKey: "instance.id"] = "\(arguments.configuration.id)"
    logger[metadataKey: "generation.id"] = "\(arguments.configuration.generation)"
    do {
      return try PagerProgram(arguments, logger: logger).serve().rawValue
    } catch {
      logger.error("the pager could not start", metadata: ["error": "\(error)"])
      return PagerExitCode.system.rawValue
    }
  }

  private init(_ arguments: PagerArguments, logger: Logger) throws(SystemError) {
    self.arguments = arguments
    self.logger = logger
    let signal = SIGUSR1
    let opened = withUnsafePointer(to: signal) { martlet_guest_open_signals($0, 1) }
    guard opened >= 0 else { throw SystemError("signalfd", Errno(rawValue: -opened)) }
    signals = OwnedDescriptor(opened)
    failure = try PagerFailureFile(in: arguments.configuration.runDirectory)
  }

  /// All that the process works with, opened while it is root.
  private struct Opened {
    let generation: Generation
    let image: MemoryImage
    let statistics: StatisticsFile
    let removed: RemovedPages
    let regions: RegionsFile
    /// Nil when there is none to push.
    let workingSet: OwnedDescriptor?
  }

  private func serve() -> PagerExitCode {
    do {
      let opened = try open()
      try confine()
      // While the VMM starts.
      let loader = try load(opened)
      let handshake = try connectMachine(opened)
      return serve(handshake, opened, loader)
    } catch {
      return end(error, machine: nil)
    }
  }

  private func open() throws(PagerError) -> Opened {
    let configuration = arguments.configuration
    do {
      let store = SnapshotStore(directory: configuration.store, logger: logger)
      let generation = try store.generation(configuration.generation)
      let image = try MemoryImage.open(generation, in: store)
      try arm(machine: nil)
      let directory = configuration.runDirectory
      return Opened(
        generation: generation, image: image, statistics: try StatisticsFile(in: directory),
        removed: try RemovedPages(in: directory, pageCount: image.pageCount), regions: try RegionsFile(in: directory),
        // A successor pushes nothing: its guest has what it needed first.
        workingSet: arguments.vmm == nil ? try WorkingSetLoader.open(generation.workingSetPath) : nil)
    } catch let error as SystemError {
      throw .system(error)
    } catch {
      throw .unservable(MartletError.wrapping(error))
    }
  }

  private func confine() throws(PagerError) {
    do {
      try Confinement(
        namespace: OwnedDescriptor(PagerArguments.namespaceDescriptor), userID: arguments.configuration.ownerUID,
        profile: .pager
      ).enter()
    } catch {
      throw .system(error)
    }
  }

  private func arm(machine: ProcessHandle?) throws(SystemError) {
    let damage = MartletError.damaged(arguments.configuration.generation, .memoryLayer, "cannot be read")
    try failure.armBusError(damage.message, machine: machine)
  }

  private func connectMachine(_ opened: Opened) throws(PagerError) -> MachineHandshake {
    let memoryBytes = opened.image.memoryBytes
    if let vmm = arguments.vmm {
      return try MachineHandshake.takeOver(
        ProcessHandle(pid: vmm, adopting: OwnedDescriptor(PagerArguments.machineDescriptor)),
        faults: OwnedDescriptor(PagerArguments.userfaultDescriptor), regions: opened.regions, memoryBytes: memoryBytes)
    }
    let listener = UnixSocket(OwnedDescriptor(PagerArguments.socketDescriptor))
    defer { listener.descriptor.close() }
    let handshake = try MachineHandshake.accept(
      on: listener, owner: arguments.configuration.ownerUID, memoryBytes: memoryBytes)
    try handshake.storeRegions(in: opened.regions)
    return handshake
  }

  private func load(_ opened: Opened) throws(PagerError) -> WorkingSetLoader? {
    guard let file = opened.workingSet else { return nil }
    do {
      return try WorkingSetLoader.start(file, for: opened.image)
    } catch {
      throw .system(error)
    }
  }

  private func serve(
    _ handshake: MachineHandshake, _ opened: Opened, _ loader: WorkingSetLoader?
  ) -> PagerExitCode {
    var recording: WorkingSetRecording?
    // What was recorded is handed on to its end, also when the VM is gone.
    defer { recording?.waitUntilWritten() }
    do {
      try arm(machine: handshake.machine)
      let server = PageServer(
        image: opened.image, regions: handshake.regions, faults: handshake.faults, removed: opened.removed,
        window: FaultWindow(), statistics: opened.statistics.value)
      try server.takeOver()
      if loader == nil { recording = try record(server) }
      try begin(server, handshake)
      let loop = PagerLoop(
        server: server, machine: handshake.machine, connection: handshake.connection, signals: signals,
        statistics: opened.statistics, recording: recording, loader: loader)
      try loop.run()
    } catch let error as SystemError {
      return end(.system(error), machine: handshake.machine)
    } catch let error as PagerError {
      return end(error, machine: handshake.machine)
    } catch {
      return end(.unservable(MartletError.wrapping(error)), machine: handshake.machine)
    }
  }

  /// Answers who waits for us.
  private func begin(_ server: PageServer, _ handshake: MachineHandshake) throws(PagerError) {
    guard arguments.vmm == nil else {
      try server.wakeAll()
      return signalReadiness()
    }
    // The preloaded library waits for this byte; Firecracker ignores it.
    try? handshake.connection?.send([1])
  }

  /// Takes note of what the guest needs first, for those that are restored from the same generation later. Another
  /// process, which was started with this one, writes it down: this one may not, and is not believed more than the
  /// list.
  private func record(_ server: PageServer) throws(PagerError) -> WorkingSetRecording? {
    guard arguments.vmm == nil, arguments.configuration.recordsWorkingSet else { return nil }
    let recording: WorkingSetRecording
    do {
      let output = OwnedDescriptor(PagerArguments.recordingDescriptor)
      recording = try WorkingSetRecording { windows in
        RecordedWindows.send(windows, to: output)
        output.close()
      }
    } catch {
      throw .system(error)
    }
    server.use(.recording)
    server.onWindow = { recording.record($0) }
    return recording
  }

  private func signalReadiness() {
    let descriptor = OwnedDescriptor(PagerArguments.readinessDescriptor)
    _ = write(descriptor.rawValue, [UInt8(1)], 1)
  }

  /// Reports the reason where required, and kills a VM that would wait for a page for ever.
  private func end(_ error: PagerError, machine: ProcessHandle?) -> PagerExitCode {
    switch error {
    case .machineEnded:
      return .machineEnded
    case .notConnected:
      logger.warning("no VMM connected")
      return .notConnected
    case .unservable(let reason):
      failure.write(reason.message)
      machine?.signal(SIGKILL)
      logger.error("the VM was ended: a page could not be served", metadata: ["error": "\(reason)"])
      return .unservable
    case .system(let error):
      logger.error("the pager failed", metadata: ["error": "\(error)"])
      return .system
    }
  }
}
