import Disks
import Foundation
import HostInterface
import Hypervisor
import Images
import LinuxSystem
import Logging
import Model
import SandboxNetwork
import SystemPackage

extension SandboxController {
  /// Makes the sandbox step by step. On any failure, cancellation included, everything made so far is removed before this throws.
  func performCreate() async throws -> HostSandbox {
    let begin = ContinuousClock.now
    do {
      try Task.checkCancellation()
      try await make()
      if let earlyExit { throw MartletError(.agentError, "the sandbox ended while it was being created: \(earlyExit.reason)") }
      guard lifecycle.handle(.created) == .publish else { throw CancellationError() }
    } catch {
      try await abandonCreation(error)
    }
    context.logger.info("created", metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
    return report
  }

  private func make() async throws {
    let template = try context.parts.templates.template(entry.spec.template, team: entry.spec.teamID)
    let kernel = try context.parts.templates.guestKernel()
    try await making(.journal) { try await self.context.journal.insert(self.entry) }
    try await making(.directory) { try self.makeDirectory() }
    try await making(.disk) { try await self.makeDisk(template) }
    let network = try await making(.network) { try await self.makeNetwork() }
    let cgroup = try await making(.cgroup) { try self.makeCgroup() }
    try await context.bootGate.pass {
      try await self.boot(kernel: kernel, template: template, network: network, cgroup: cgroup)
    }
    try await making(.commit) { try await self.commit() }
  }

  private func boot(kernel: GuestKernel, template: TemplateImage, network: NetworkHandle, cgroup: Cgroup?) async throws {
    let machine = try await making(.vmm) { try await self.launch(kernel: kernel, network: network, cgroup: cgroup) }
    try await making(.guest) { try await self.awaitGuest(machine, template: template, network: network) }
  }

  /// - Parameter body: runs on this actor.
  private func making<Result: Sendable>(
    _ step: SandboxStep, _ body: () async throws -> sending Result
  ) async throws -> Result {
    try Task.checkCancellation()
    try await self.step(.beforeMaking(step))
    let result = try await body()
    try await self.step(.afterMaking(step))
    return result
  }

  private func makeDirectory() throws {
    // Root's own: the VMM, which runs as another user, passes through but writes only its disk.
    try Directories.create(context.configuration.directory(of: id), mode: 0o711)
  }

  private func makeDisk(_ template: TemplateImage) async throws {
    let size = Int64(entry.spec.diskSizeMiB) << 20
    entry.disk = try await context.parts.disks.create(
      id: id, base: template.path, sizeBytes: size, directory: context.configuration.directory(of: id), ownerUID: entry.userID)
    try await context.journal.update(entry)
  }

  private func makeNetwork() async throws -> NetworkHandle {
    let handle = try await context.parts.network.create(slot: entry.slot, policy: entry.spec.network, ownerUID: entry.userID)
    entry.hostAddress = handle.hostAddress
    return handle
  }

  private func makeCgroup() throws -> Cgroup? {
    guard let cgroup = cgroup else { return nil }
    let memory = Int64(entry.spec.memoryMiB + context.configuration.memoryOverheadMiB) << 20
    // Half a CPU more than the guest has, for device emulation.
    try cgroup.create(
      limits: CgroupLimits(
        memoryBytes: memory, cpuPercent: entry.spec.vcpus * 100 + 50, processes: context.configuration.processLimit))
    return cgroup
  }

  private func launch(kernel: GuestKernel, network: NetworkHandle, cgroup: Cgroup?) async throws -> any VirtualMachine {
    guard let disk = entry.disk else { throw MartletError(.internalError, "the sandbox has no disk") }
    let format: DiskAttachment.Format = disk.format == .raw ? .raw : .qcow2
    let configuration = VMConfiguration(
      id: InstanceID(id.uuid), vcpus: entry.spec.vcpus, memoryMiB: entry.spec.memoryMiB, kernel: kernel.vmlinux, initramfs: kernel.initramfs,
      kernelArguments: [
        "root=/dev/vda", "rw", "martlet.ip=\(GuestContract.guestAddress)/\(GuestContract.prefixLength)",
        "martlet.gw=\(GuestContract.gatewayAddress)", "martlet.dns=\(GuestContract.gatewayAddress)",
      ],
      disk: DiskAttachment(path: disk.path.string, format: format), runDirectory: context.configuration.directory(of: id),
      networkNamespace: network.namespacePath, tapName: network.tapName, macAddress: GuestContract.guestMAC, userID: entry.userID,
      cgroup: cgroup)
    let machine = try await context.parts.driver.launch(configuration)
    watch(machine)
    entry.vmm = machine.identity
    let (vmm, accelerator) = context.parts.driver.isolation
    entry.isolation = Isolation(vmm: vmm, accelerator: accelerator)
    try await context.journal.update(entry)
    return machine
  }

  /// Waits for the guest agent, unless the VMM ends or the deadline passes first; then tells the guest who it is.
  private func awaitGuest(_ machine: any VirtualMachine, template: TemplateImage, network: NetworkHandle) async throws {
    let guest = context.parts.guests.guest(
      at: network.hostAddress, accessToken: entry.accessToken, id: id)
    let identity = GuestIdentity(
      id: id, template: entry.spec.template, envs: template.envs.merging(entry.spec.envs) { $1 }, accessToken: entry.accessToken,
      defaultUser: template.defaultUser, defaultWorkdir: template.defaultWorkdir)
    do {
      try await withDeadline(context.configuration.bootDeadline) {
        try await Self.race(machine) {
          try await guest.waitUntilHealthy()
          try await guest.initialize(identity)
        }
      }
    } catch is DeadlineExceeded {
      throw MartletError(.agentError, "the guest agent did not answer in time while sandbox \(id) was booting")
    }
    setGuest(guest)
  }

  private static func race(_ machine: any VirtualMachine, _ body: @escaping @Sendable () async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask(operation: body)
      group.addTask {
        let exit = await machine.waitForExit(orCancelled: ())
        guard let exit else { return try await Task.sleep(for: .seconds(3_600)) }
        throw MartletError(.agentError, "the sandbox did not boot: \(exit.reason)")
      }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  private func commit() async throws {
    entry.phase = .running
    entry.startedAt = Date()
    try await context.journal.update(entry)
  }

  /// Removes what a failed creation made, and throws what the caller shall see.
  private func abandonCreation(_ error: any Error) async throws -> Never {
    await drainConsole()
    let failure = Self.creationError(error)
    context.logger.warning(
      "creation failed", metadata: ["error": "\(error)", "console": "\(consoleTail)"])
    switch lifecycle.handle(.creationFailed) {
    case .forget:
      do {
        try await Task { try await self.removeEverything() }.value
      } catch {
        // What is left stays in the journal as `destroying`, and is tried again.
        lifecycle = SandboxLifecycle(.destroying)
        context.logger.error("a failed creation left resources behind", metadata: ["error": "\(error)"])
      }
    default:
      break  // A destroy request follows in the queue and removes everything.
    }
    throw failure
  }

  private static func creationError(_ error: any Error) -> MartletError {
    switch error {
    case let error as MartletError: error
    case is CancellationError: MartletError(.canceled, "the sandbox was destroyed while it was being created")
    default: MartletError(.agentError, "the host could not create the sandbox; its log has the details", cause: error)
    }
  }

  private var consoleTail: String {
    ConsoleLog(directory: context.configuration.directory(of: id)).tail(1_000)
  }

  var cgroup: Cgroup? {
    context.parts.cgroups.map { Cgroup(hierarchy: $0, name: "slot-\(entry.slot)", parent: context.configuration.cgroupParent) }
  }
}

extension VirtualMachine {
  /// The exit, or nil once the task is cancelled.
  fileprivate func waitForExit(orCancelled: Void) async -> VMMExit? {
    let (stream, continuation) = AsyncStream.makeStream(of: VMMExit.self, bufferingPolicy: .bufferingOldest(1))
    // Ends with the VMM; an iterator of the stream ends with cancellation too, which `waitForExit` cannot.
    Task {
      continuation.yield(await waitForExit())
      continuation.finish()
    }
    for await exit in stream { return exit }
    return nil
  }
}

extension Duration {
  var milliseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000 + attoseconds / 1_000_000_000_000_000
  }
}
