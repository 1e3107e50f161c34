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
/// open the generation ─▶ VMM connects, or is taken over ─▶ serve, and push the working set ─▶ VM ended: 0
///        │ damaged                │ refused                                          │ damaged page: kill the VM
///        └────────────────────────┴───── pager.failure, exit code 65 ────────────────┘
/// ```
package struct PagerProgram {
  private let arguments: PagerArguments
  private let failure: PagerFailureFile
  /// The signals are blocked and read from this descriptor, so that none is lost and none kills the process.
  private let signals: OwnedDescriptor
  private let logger: Logger

  /// Executes a command line that begins with `PagerArguments.command`.
  /// - Returns: the exit code of the process.
  package static func run(_ words: [String]) -> Int32 {
    if let saving = SavingArguments(words) { return SavingProgram(saving).run() }
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

  private func serve() -> PagerExitCode {
    do {
      let (generation, image) = try open()
      // The working set is loaded while the VMM starts.
      let loader = try load(generation, image)
      let handshake = try connectMachine(image)
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

  private func connectMachine(_ image: MemoryImage) throws(PagerError) -> MachineHandshake {
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

  /// A replacement loads no working set: its guest has run already.
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
    // Writing the working set continues to its end, even after the VM's end.
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

  /// Wakes the VMM or the host agent that waits for this pager.
  private func begin(_ server: PageServer, _ handshake: MachineHandshake) throws(PagerError) {
    guard arguments.vmm == nil else {
      try server.wakeAll()
      return signalReadiness()
    }
    // The preloaded library waits for this byte; Firecracker ignores it.
    try? handshake.connection?.send([1])
  }

  /// Records the pages that the guest needs first, for later restores of the same generation.
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
