import CLinux
import Glibc
import LinuxSystem
import Logging
import Model
import Snapshots
import SystemPackage

/// What a `martlet pager` process does: serves the page faults of one VM until that VM ends.
///
/// ```
/// open the generation ─▶ VMM connects, or is taken over ─▶ serve, and push the working set ─▶ VM ended: 0
///        │ damaged                │ refused                                          │ damaged page: kill the VM
///        └────────────────────────┴───── pager.failure, exit code 65 ────────────────┘
/// ```
package struct PagerProgram {
  private let arguments: PagerArguments
  private let failure: PagerFailureFile
  /// Blocked and to be read from here, so that a signal in any moment is seen and none kills.
  private let signals: OwnedDescriptor
  private let logger: Logger

  /// Performs a command line that begins with `PagerArguments.command`.
  /// - Returns: the exit code of the process.
  package static func run(_ words: [String]) -> Int32 {
    if let saving = SavingArguments(words) { return SavingProgram(saving).run() }
    var logger = Logger(label: "martlet.pager")
    guard let arguments = PagerArguments(words) else {
      logger.error("this command is for martlet's own use")
      return PagerExitCode.usage.rawValue
    }
    logger[metadataKey: "instance.id"] = "\(arguments.configuration.id)"
    logger[metadataKey: "snapshot.id"] = "\(arguments.configuration.generation)"
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

  private func serve() -> PagerExitCode {
    do {
      let (generation, image) = try open()
      // While the VMM starts.
      let loader = try load(generation, image)
      let handshake = try meetMachine(image)
      return serve(handshake, generation, image, loader)
    } catch {
      return end(error, machine: nil)
    }
  }

  private func open() throws(PagerError) -> (Generation, MemoryImage) {
    let configuration = arguments.configuration
    do {
      let store = SnapshotStore(directory: configuration.store, logger: logger)
      let generation = try store.generation(configuration.generation)
      let image = try MemoryImage.open(generation, in: store)
      try arm(machine: nil)
      return (generation, image)
    } catch let error as SystemError {
      throw .system(error)
    } catch {
      throw .unservable(MartletError.wrapping(error))
    }
  }

  private func arm(machine: ProcessHandle?) throws(SystemError) {
    let damage = MartletError.damaged(arguments.configuration.generation, .memoryLayer, "cannot be read")
    try failure.armBusError(damage.message, machine: machine)
  }

  private func meetMachine(_ image: MemoryImage) throws(PagerError) -> MachineHandshake {
    let configuration = arguments.configuration
    if let vmm = arguments.vmm {
      return try MachineHandshake.takeOver(
        vmm: vmm, runDirectory: configuration.runDirectory, memoryBytes: image.memoryBytes)
    }
    let listener = UnixSocket(OwnedDescriptor(PagerArguments.socketDescriptor))
    defer { listener.descriptor.close() }
    let handshake = try MachineHandshake.accept(
      on: listener, owner: configuration.ownerUID, memoryBytes: image.memoryBytes)
    try handshake.storeRegions(in: configuration.runDirectory)
    return handshake
  }

  /// A successor pushes nothing: its guest has what it needed first.
  private func load(_ generation: Generation, _ image: MemoryImage) throws(PagerError) -> WorkingSetLoader? {
    guard arguments.vmm == nil else { return nil }
    do {
      return try WorkingSetLoader.start(generation.workingSetPath, for: image)
    } catch {
      throw .system(error)
    }
  }

  private func serve(
    _ handshake: MachineHandshake, _ generation: Generation, _ image: MemoryImage, _ loader: WorkingSetLoader?
  ) -> PagerExitCode {
    var recording: WorkingSetRecording?
    // A set that is being written goes to its end, also when the VM is gone.
    defer { recording?.waitUntilWritten() }
    do {
      let statistics = try prepare(handshake)
      let server = PageServer(
        image: image, regions: handshake.regions, faults: handshake.faults,
        removed: try RemovedPages(in: arguments.configuration.runDirectory, pageCount: image.pageCount),
        window: FaultWindow(),
        statistics: statistics.value)
      try server.takeOver()
      if loader == nil { recording = try record(server, generation) }
      try begin(server, handshake)
      let loop = PagerLoop(
        server: server, machine: handshake.machine, connection: handshake.connection, signals: signals,
        statistics: statistics,
        recording: recording, loader: loader)
      try loop.run()
    } catch let error as SystemError {
      return end(.system(error), machine: handshake.machine)
    } catch let error as PagerError {
      return end(error, machine: handshake.machine)
    } catch {
      return end(.unservable(MartletError.wrapping(error)), machine: handshake.machine)
    }
  }

  private func prepare(_ handshake: MachineHandshake) throws(SystemError) -> StatisticsFile {
    try arm(machine: handshake.machine)
    return try StatisticsFile(in: arguments.configuration.runDirectory)
  }

  /// Answers who waits for us.
  private func begin(_ server: PageServer, _ handshake: MachineHandshake) throws(PagerError) {
    guard arguments.vmm == nil else {
      try server.wakeAll()
      return announce()
    }
    // Our preloaded library waits for this; Firecracker does not, and does not mind.
    try? handshake.connection?.send([1])
  }

  /// Takes note of what the guest needs first, for those that are restored from the same generation later.
  private func record(_ server: PageServer, _ generation: Generation) throws(PagerError) -> WorkingSetRecording? {
    guard arguments.vmm == nil, arguments.configuration.recordsWorkingSet else { return nil }
    let recording: WorkingSetRecording
    do {
      let (image, path, logger) = (server.image, generation.workingSetPath, logger)
      recording = try WorkingSetRecording { windows in
        do {
          let count = try WorkingSet.write(windows, of: image, to: path)
          logger.info("the working set was recorded", metadata: ["pages": "\(count)"])
        } catch {
          logger.warning("the working set could not be written", metadata: ["error": "\(error)"])
        }
      }
    } catch {
      throw .system(error)
    }
    server.use(.recording)
    server.onWindow = { recording.record($0) }
    return recording
  }

  private func announce() {
    let descriptor = OwnedDescriptor(PagerArguments.readinessDescriptor)
    _ = write(descriptor.rawValue, [UInt8(1)], 1)
  }

  /// Says why, where it matters, and makes sure that no VM waits for a page that will never come.
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
