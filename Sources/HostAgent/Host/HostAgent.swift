import Concurrency
import Disks
import Foundation
import Glibc
import HostAPI
import LinuxSystem
package import Logging
import Model
import Snapshots
import SystemPackage

/// Creates, keeps and removes the sandboxes of one machine.
///
/// Owns the journal and the running processes. VMMs and pagers are separate processes; a new host agent on the same
/// data directory continues where an earlier one stopped (`recover`).
package final class HostAgent: Sendable {
  package let configuration: HostConfiguration
  let parts: HostParts
  let logger: Logger
  let named: NamedSnapshots
  let templates: TemplateSnapshots
  let warmPool: WarmPool
  let generations: GenerationKeeper
  private let journal: Journal
  private let observer: StepObserver
  private let slots: Slots
  private let instances: InstanceFactory
  private let quarantinePauses: AsyncSemaphore
  private let controllers = Mutex([SandboxID: SandboxController]())
  /// Until it is set, sandboxes may exist that have no controller yet.
  private let hasRecovered = Mutex(false)

  package init(
    configuration: HostConfiguration, parts: HostParts, journal: Journal, observer: StepObserver = StepObserver(),
    logger: Logger
  ) {
    self.configuration = configuration
    self.parts = parts
    self.journal = journal
    self.observer = observer
    var logger = logger
    logger[metadataKey: "host.id"] = "\(configuration.hostID)"
    self.logger = logger
    slots = Slots(configuration.slots)
    quarantinePauses = AsyncSemaphore(
      permits: configuration.concurrentQuarantinePauses, maximumWaiters: configuration.slots.count)
    generations = GenerationKeeper(parts: parts, logger: logger)
    named = NamedSnapshots(journal: journal, generations: generations, observer: observer)
    templates = TemplateSnapshots(
      parts: parts, journal: journal, generations: generations, maximumWaiting: configuration.maximumWaitingStarts,
      logger: logger)
    instances = InstanceFactory(
      InstanceContext(
        configuration: configuration, parts: parts, journal: journal, slots: slots, observer: observer, logger: logger))
    warmPool = WarmPool(
      capacity: configuration.warmPoolSize, factory: instances, generations: generations, guests: parts.guests,
      logger: logger)
  }

  /// Prepares the host, adopts running VMMs, completes or reverts interrupted operations, and removes leftovers. Must
  /// be called once, before all other functions.
  /// - Throws: also when it cannot be determined whether a sandbox's VMM runs, for example without a free descriptor.
  ///   The sandbox stays as it is then, for the next start.
  package func recover() async throws {
    try await parts.network.prepareHost()
    try Directories.createPrivate(configuration.instancesDirectory)
    let store = parts.snapshots
    try await BlockingPool.shared.run { () throws(MartletError) in try store.prepare() }
    try await named.load()
    try await templates.load()
    let instances = try await loadInstances()
    try await admitFormerMachines(Array(instances.values))
    let entries = try await journal.sandboxes()
    let recovered = entries.map { entry in
      SandboxController(entry: entry, instance: entry.instance.flatMap { instances[$0] }, context: context)
    }
    controllers.withLock { known in for controller in recovered { known[controller.id] = controller } }
    let owned = Set(entries.compactMap(\.instance))
    let failures = await withTaskGroup(of: (any Error)?.self) { group in
      for controller in recovered { group.addTask { await self.recover(controller) } }
      for instance in instances.values where !owned.contains(instance.id) {
        group.addTask {
          await self.discard(instance)
          return nil
        }
      }
      return await group.reduce(into: [any Error]()) { if let error = $1 { $0.append(error) } }
    }
    if let failure = failures.first { throw failure }
    await removeOrphans()
    await collect()
    hasRecovered.withLock { $0 = true }
  }

  /// Keeps the way open by which VMMs of earlier versions, which opened their disks by name, open them again when their
  /// guest continues. It is closed by the first start after the last of them has ended.
  private func admitFormerMachines(_ instances: [Instance]) async throws {
    for instance in instances {
      let entry = await instance.entry
      guard entry.vmm != nil, let disk = entry.disk, disk.isSelfContained != true else { continue }
      for path in [configuration.dataDirectory, configuration.instancesDirectory] {
        try SystemError.check("chmod", path.string) { chmod(path.string, 0o711) }
      }
    }
  }

  private func recover(_ controller: SandboxController) async -> (any Error)? {
    do {
      try await controller.recover()
      return nil
    } catch {
      logger.error(
        "a sandbox could not be recovered", metadata: ["sandbox.id": "\(controller.id)", "error": "\(error)"])
      return MartletError(
        .hostUnavailable,
        "the host agent cannot find out whether sandbox \(controller.id) still runs; the log says why. "
          + "Nothing was changed; start the server again when the cause is mended",
        cause: error)
    }
  }

  private func loadInstances() async throws -> [InstanceID: Instance] {
    var found: [InstanceID: Instance] = [:]
    for entry in try await journal.instances() {
      slots.claim(entry.slot)
      found[entry.id] = Instance(entry, context: instances.context)
    }
    return found
  }

  /// Removes a microVM that belongs to no sandbox: its sandbox had not journaled it, or no longer refers to it.
  private func discard(_ instance: Instance) async {
    do {
      try await instance.remove()
    } catch {
      logger.error(
        "a microVM that belongs to no sandbox was not removed",
        metadata: ["instance.id": "\(instance.id)", "error": "\(error)"])
    }
  }

  /// One round of quick recurring work: pauses idle sandboxes, drains consoles, repeats failed removals. Pauses are
  /// started, not awaited.
  package func maintain() async {
    for controller in allControllers {
      // Unstructured on purpose: a slow pause must not delay this round. `drain` waits for it at shutdown.
      Task {
        await controller.pauseIfIdle()
        await controller.pauseIfQuarantined()
      }
    }
    await withTaskGroup(of: Void.self) { group in
      for controller in allControllers {
        group.addTask {
          await controller.drainConsole()
          await controller.retryRemoval()
        }
      }
    }
  }

  /// One round of recurring work that may take long: compacts chains and collects unneeded generations.
  package func tidy() async {
    await compact()
    await collect()
  }

  /// Waits until every requested lifecycle operation has finished, and closes the warm pool; at most for
  /// `HostConfiguration.drainDeadline`. The next start completes or reverts what has not finished by then.
  package func drain() async {
    let isDone = try? await withDeadline(configuration.drainDeadline) {
      await self.warmPool.close()
      return await withTaskGroup(of: Bool.self) { group in
        for controller in self.allControllers { group.addTask { await controller.drain() } }
        return await group.allSatisfy { $0 }
      }
    }
    if isDone != true {
      logger.warning(
        "stopped waiting for operations that are under way",
        metadata: ["duration.ms": "\(configuration.drainDeadline.milliseconds)"])
    }
  }

  /// Releases what the host holds for the host agent as a whole rather than for one sandbox. Must be called last, after
  /// `drain`.
  /// - Returns: false when sandboxes, in whatever state, or microVMs remain: nothing was changed then.
  package func releaseHost() async throws -> Bool {
    guard hasRecovered.withLock({ $0 }), allControllers.isEmpty, try await journal.instances().isEmpty else {
      return false
    }
    try await parts.network.teardownHost()
    if let cgroups = parts.cgroups { try Cgroup.removeParent(configuration.cgroupParent, in: cgroups) }
    return true
  }

  // MARK: - Controllers

  var allControllers: [SandboxController] {
    controllers.withLock { Array($0.values) }
  }

  /// - Throws: `not_found`.
  func controller(_ id: SandboxID) throws -> SandboxController {
    guard let controller = existingController(id) else { throw MartletError.sandboxNotFound(id) }
    return controller
  }

  func existingController(_ id: SandboxID) -> SandboxController? {
    controllers.withLock { $0[id] }
  }

  /// Makes the controller of a new sandbox.
  func makeController(for spec: SandboxSpec, from frozen: FrozenSandbox? = nil) throws -> SandboxController {
    let entry = SandboxEntry(spec: spec, accessToken: spec.isSecured ? Self.randomToken() : nil)
    let context = context
    return try controllers.withLock { controllers in
      guard controllers[spec.id] == nil else {
        throw MartletError(.alreadyExists, "sandbox \(spec.id) exists already")
      }
      let controller = SandboxController(entry: entry, frozen: frozen, context: context)
      controllers[spec.id] = controller
      return controller
    }
  }

  private var context: ControllerContext {
    ControllerContext(
      configuration: configuration, parts: parts, journal: journal, instances: instances, generations: generations,
      templates: templates,
      warmPool: warmPool, named: named, observer: observer, quarantinePauses: quarantinePauses,
      forget: { [weak self] id in self?.forget(id) },
      logger: logger)
  }

  private func forget(_ id: SandboxID) {
    controllers.withLock { _ = $0.removeValue(forKey: id) }
  }

  private static func randomToken() -> String {
    var generator = SystemRandomNumberGenerator()
    return (0..<4).map { _ in
      let digits = String(generator.next() as UInt64, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
