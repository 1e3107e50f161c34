import Concurrency
import Glibc
package import Hypervisor
package import LinuxSystem
package import Logging
package import Model
package import SystemPackage

/// Runs guests on QEMU's microvm machine.
package struct QEMUDriver: HypervisorDriver {
  private static let processEnvironment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"]
  private static let openFiles: UInt64 = 1_024
  /// When memory runs out, the kernel kills a VMM rather than the host agent or other processes of the host.
  private static let oomScoreAdjustment = 300

  package let installation: QEMUInstallation
  package let accelerator: Accelerator
  private let tscKilohertz: Int
  /// The library that is preloaded into QEMU (Sources/QEMUPagerShim).
  private let shim: FilePath
  private let logger: Logger
  private let root: SharedRoot

  /// `VMMRoot`, made when the first VMM starts.
  private final class SharedRoot: Sendable {
    private let made = Mutex(VMMRoot?.none)

    func get(_ installation: QEMUInstallation, _ accelerator: Accelerator) throws(MartletError) -> VMMRoot {
      try made.withLock { made throws(MartletError) in
        if let made { return made }
        let root = try VMMRoot(installation, accelerator: accelerator)
        made = root
        return root
      }
    }
  }

  package init(
    installation: QEMUInstallation, accelerator: Accelerator, tscKilohertz: Int, shim: FilePath, logger: Logger
  ) {
    self.installation = installation
    self.accelerator = accelerator
    self.tscKilohertz = tscKilohertz
    self.shim = shim
    self.logger = logger
    root = SharedRoot()
  }

  package var isolation: (vmm: String, accelerator: String) { ("qemu", accelerator.rawValue) }
  package var machine: MachineDescription {
    MachineDescription(
      vmm: "qemu", vmmVersion: installation.version, machine: QEMUArguments.machineLayout,
      firmwareDigest: installation.firmwareDigest,
      cpuModel: GuestProcessor.describe(accelerator, tscKilohertz: tscKilohertz), accelerator: accelerator.rawValue)
  }

  package func launch(_ configuration: VMConfiguration) async throws -> any VirtualMachine {
    let child = try await BlockingPool.shared.run { () throws in try spawn(configuration) }
    let process: ProcessHandle?
    do {
      process = try ProcessHandle.of(child)
    } catch {
      // Without a handle the VMM could not be watched; a later orphan search must not find it running either.
      await end(child)
      throw error
    }
    guard let process else {
      await end(child)
      let log = ConsoleLog.vmmLogTail(in: configuration.runDirectory)
      throw MartletError(.agentError, "the VMM did not start", cause: QMPError(command: "start", text: log))
    }
    return machine(process, configuration.runDirectory, configuration.cgroup, configuration.id)
  }

  private func end(_ child: ChildProcess) async {
    child.signal(SIGKILL)
    _ = await BlockingPool.shared.run { child.reapBlocking() }
  }

  package func adopt(
    _ identity: VMMIdentity, runDirectory: FilePath, cgroup: Cgroup?
  ) async throws -> (any VirtualMachine)? {
    guard let process = try ProcessHandle.open(pid: identity.pid, startTimeTicks: identity.startTimeTicks) else {
      return nil
    }
    return machine(process, runDirectory, cgroup, nil)
  }

  package func findOrphans(of id: InstanceID) throws -> [VMMIdentity] {
    let name = "guest=\(id.wire),debug-threads=on"
    return try ProcessTable.pids().compactMap { pid in
      let arguments = try ProcessTable.arguments(of: pid)
      guard arguments.first == installation.executable, arguments.contains(name),
        let ticks = try ProcessTable.startTimeTicks(of: pid)
      else { return nil }
      return VMMIdentity(pid: pid, startTimeTicks: ticks)
    }
  }

  private func machine(
    _ process: ProcessHandle, _ directory: FilePath, _ cgroup: Cgroup?, _ id: InstanceID?
  ) -> QEMUMachine {
    var logger = logger
    logger[metadataKey: "vmm.pid"] = "\(process.pid)"
    if let id { logger[metadataKey: "instance.id"] = "\(id)" }
    let machine = QEMUMachine(process: process, directory: directory, cgroup: cgroup, logger: logger)
    machine.startWatching()
    return machine
  }

  private func spawn(_ configuration: VMConfiguration) throws -> ChildProcess {
    let arguments = QEMUArguments(
      configuration: configuration, firmware: installation.firmware, accelerator: accelerator,
      tscKilohertz: tscKilohertz)
    let memory = try GuestMemory(configuration, shim: shim)
    let monitor = try UnixSocket.listen(QEMUArguments.monitorSocket, in: configuration.runDirectory, owner: 0)
    let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    let log = try OwnedDescriptor.open(
      configuration.runDirectory.appending(ConsoleLog.vmmLogName).string, O_WRONLY | O_APPEND | O_CREAT, mode: 0o600)
    var request = SpawnRequest(
      executable: installation.executable, arguments: arguments.list,
      environment: Self.processEnvironment.merging(memory.environment) { $1 },
      workingDirectory: configuration.runDirectory.string,
      descriptors: [
        0: null.rawValue, 1: log.rawValue, 2: log.rawValue,
        QEMUArguments.monitorDescriptor: monitor.descriptor.rawValue,
      ].merging(memory.descriptors) { $1 }.merging(DiskArguments(configuration.disk).descriptors) { $1 })
    request.createsSession = true
    request.isolatesProcesses = true
    request.mounts = try root.get(installation, accelerator).mounts(for: configuration)
    request.credentials = SpawnRequest.Credentials(uid: configuration.userID, gid: configuration.userID)
    request.forbidsCapabilities = true
    request.tap = (configuration.tapName, QEMUArguments.tapDescriptor)
    request.networkNamespace = try NetworkNamespace.open(path: configuration.networkNamespace.string)
    request.cgroups = try configuration.cgroup?.joinDescriptors() ?? []
    request.limits = [
      (Int32(RLIMIT_NOFILE.rawValue), Self.openFiles, Self.openFiles), (Int32(RLIMIT_CORE.rawValue), 0, 0),
    ]
    request.oomScoreAdjustment = Self.oomScoreAdjustment
    request.forbidsNewPrivileges = true
    request.fileModeMask = 0o077
    defer { withExtendedLifetime((memory, monitor, null, log, configuration.disk)) {} }
    return try ChildProcess.spawn(request)
  }
}

extension ConsoleLog {
  static let vmmLogName = "vmm.log"

  static func vmmLogTail(in directory: FilePath) -> String {
    let bytes = (try? SmallFile.read(directory.appending(vmmLogName).string)) ?? []
    return String(decoding: bytes.suffix(2_000), as: UTF8.self)
  }
}
