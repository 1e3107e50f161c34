import Concurrency
import Foundation
import HostAPI
import Hypervisor
import Images
import Logging
import Model
import Snapshots

/// The origin of a new sandbox.
enum SandboxSource: Sendable {
  /// A template, booted or restored from the template's own snapshot.
  case template(TemplateImage)
  /// A checkpoint of another sandbox: a named snapshot, or made for a fork.
  case frozen(FrozenSandbox)
}

/// The state of a sandbox at one moment, from which other sandboxes are created.
struct FrozenSandbox: Sendable {
  var generation: GenerationID
  var shape: SandboxShape
  /// The access token that the guest agent in the checkpoint requires until the new sandbox is initialized.
  var accessToken: String?
  var environment: [String: String]
}

extension SandboxController {
  /// Creates the sandbox. On any failure, including cancellation, everything made so far is removed before this throws.
  func performCreate() async throws -> HostSandbox {
    let begin = ContinuousClock.now
    do {
      try Task.checkCancellation()
      try await make()
      guard lifecycle.handle(.created) == .proceed else { throw CancellationError() }
      await failIfRunning()
    } catch {
      try await abandonCreation(error)
    }
    activity.touch()
    context.logger.info(
      "created",
      metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)", "phases.ms": "\(timings.text)"])
    return report
  }

  private func make() async throws {
    let source = try await source()
    defer { if case .frozen(let frozen) = source { context.generations.release(frozen.generation) } }
    try await context.journal.insert(entry)
    switch source {
    case .frozen(let frozen): try await restore(frozen)
    case .template(let template): try await make(from: template)
    }
    try await commitRunning()
  }

  /// Determines the origin of the sandbox. A generation is held until the sandbox's own entry needs it.
  private func source() async throws -> SandboxSource {
    if let frozen {
      context.generations.hold(frozen.generation)
      return .frozen(frozen)
    }
    if let named = await context.named.held(entry.spec.template, team: entry.spec.teamID) { return .frozen(named) }
    return .template(try context.parts.templates.template(entry.spec.template, team: entry.spec.teamID))
  }

  /// The first sandbox of a template in a shape is booted and leaves a snapshot; later ones are restored from that
  /// snapshot.
  private func make(from template: TemplateImage) async throws {
    entry.environment = template.envs.merging(entry.spec.envs) { $1 }
    let key = try context.templates.key(of: template, entry.spec)
    if try await takeFromPool(of: key, template) { return }
    try await context.templates.withSnapshot(of: key) { generation in
      try await self.restore(generation, token: nil, template: template)
    } afterFailure: {
      try await self.discardInstance()
    } orBoot: { keep in
      try await self.boot(template, keep: keep)
    }
    if let generation = await context.templates.generation(of: key) {
      await context.warmPool.request(WarmPool.Kind(key: key, generation: generation))
    }
  }

  /// Takes a running microVM from the warm pool.
  /// - Returns: false when the pool has none.
  private func takeFromPool(of key: TemplateSnapshotKey, _ template: TemplateImage) async throws -> Bool {
    guard entry.spec.network == NetworkPolicy(), let generation = await context.templates.generation(of: key),
      let pooled = await context.warmPool.take(WarmPool.Kind(key: key, generation: generation))
    else { return false }
    do {
      await take(pooled)
      entry.instance = pooled.id
      try await context.journal.update(entry)
      try await initialize(try await guest(of: pooled, token: nil), on: pooled, isNew: true, template: template)
      return true
    } catch let error as MartletError where error.code == .agentError {
      context.logger.warning("a pool member could not be used", metadata: ["error": "\(error)"])
      try await discardInstance()
      return false
    }
  }

  private func boot(_ template: TemplateImage, keep: @escaping TemplateSnapshots.Keep) async throws {
    try await context.instances.bootSlots.withPermit { try await self.bootNow(template, keep: keep) }
  }

  private func bootNow(_ template: TemplateImage, keep: TemplateSnapshots.Keep) async throws {
    let instance = try context.instances.make(entry.spec, origin: nil)
    await take(instance)
    entry.instance = instance.id
    try await context.journal.update(entry)
    try await instance.boot(template)
    let guest = try await guest(of: instance, token: nil)
    try await making(.guest, on: instance) {
      try await self.withinBootDeadline(instance) { try await guest.warmUp() }
    }
    timings = await instance.timings
    await keep(instance, guest)
    try await initialize(guest, on: instance, isNew: true, template: template)
  }

  private func discardInstance() async throws {
    try await instance?.remove()
    instance = nil
    unexpectedEnd = nil
  }

  private func restore(_ frozen: FrozenSandbox) async throws {
    entry.spec.vcpus = frozen.shape.vcpus
    entry.spec.memoryMiB = frozen.shape.memoryMiB
    entry.spec.diskSizeMiB = frozen.shape.diskSizeMiB
    entry.environment = frozen.environment.merging(entry.spec.envs) { $1 }
    try await restore(
      try await context.generations.generation(frozen.generation), token: frozen.accessToken, template: nil)
  }

  private func restore(_ generation: Generation, token: String?, template: TemplateImage?) async throws {
    try await context.instances.restoreSlots.withPermit {
      try await self.restoreNow(generation, token: token, template: template, isShared: self.frozen == nil)
    }
  }

  /// - Parameters:
  ///   - token: access token that the guest agent in the generation requires.
  ///   - isShared: whether other sandboxes are created from the generation too.
  func restoreNow(_ generation: Generation, token: String?, template: TemplateImage?, isShared: Bool) async throws {
    let instance = try context.instances.make(entry.spec, origin: generation.id)
    await take(instance)
    entry.instance = instance.id
    try await context.journal.update(entry)
    try await instance.restore(generation, isShared: isShared)
    timings = await instance.timings
    try await instance.run()
    try await initialize(
      try await guest(of: instance, token: token), on: instance, isNew: template != nil, template: template)
  }

  // MARK: - The guest

  private func guest(of instance: Instance, token: String?) async throws -> any Guest {
    guard let address = await instance.entry.hostAddress else {
      throw MartletError(.internalError, "the sandbox has no network")
    }
    entry.hostAddress = address
    return context.parts.guests.guest(at: address, accessToken: token, id: id)
  }

  /// Passes identity, environment, clock and entropy to the guest before its user processes run.
  private func initialize(_ guest: any Guest, on instance: Instance, isNew: Bool, template: TemplateImage?) async throws
  {
    let identity = GuestIdentity(
      id: id, template: entry.spec.template, envs: entry.environment, accessToken: entry.accessToken,
      defaultUser: template?.defaultUser, defaultWorkdir: template?.defaultWorkdir)
    try await making(.guest, on: instance) {
      try await self.withinBootDeadline(instance) { try await guest.initialize(identity) }
    }
    setGuest(try await self.guest(of: instance, token: entry.accessToken))
    let (vmm, accelerator) = context.parts.driver.isolation
    entry.isolation = Isolation(vmm: vmm, accelerator: accelerator)
  }

  private func withinBootDeadline(
    _ instance: Instance, _ body: @escaping @Sendable () async throws -> Void
  ) async throws {
    do {
      try await withDeadline(context.configuration.bootDeadline) { try await instance.whileAlive(body) }
    } catch is DeadlineExceeded {
      throw MartletError(.agentError, "the guest agent of sandbox \(id) did not respond in time")
    }
  }

  func making(_ step: HostStep, on instance: Instance, _ body: @Sendable () async throws -> Void) async throws {
    try Task.checkCancellation()
    try await context.observer.observe(.beforeMaking(step))
    let begin = ContinuousClock.now
    try await body()
    timings.add(step.rawValue, since: begin)
    try await context.observer.observe(.afterMaking(step))
  }

  func commitRunning() async throws {
    guard let instance else { throw MartletError(.internalError, "the sandbox has no microVM") }
    try await making(.commit, on: instance) { try await self.writeRunning() }
  }

  private func writeRunning() async throws {
    entry.phase = .running
    entry.reason = nil
    entry.isAutoPaused = false
    if entry.startedAt == nil { entry.startedAt = Date() }
    try await context.journal.update(entry)
  }

  // MARK: - Failure

  /// Removes what a failed creation made, and throws the error for the caller.
  private func abandonCreation(_ error: any Error) async throws -> Never {
    await instance?.drainConsole()
    let failure = Self.failure(error, "create")
    context.logger.warning("creation failed", metadata: ["error": "\(error)"])
    await logConsole()
    switch lifecycle.handle(.creationFailed) {
    case .forget:
      do {
        try await Task { try await self.removeEverything() }.value
      } catch {
        // The remaining resources stay in the journal as `destroying`, and their removal is tried again.
        lifecycle = SandboxLifecycle(.destroying)
        context.logger.error("a failed creation left resources behind", metadata: ["error": "\(error)"])
      }
    default:
      break  // A destroy request follows in the queue and removes everything.
    }
    throw failure
  }

  /// What the guest printed is the tenant's data: it is in the log only when an operator asks for debug messages.
  func logConsole() async {
    guard context.logger.logLevel <= .debug, let console = await instance?.consoleTail else { return }
    context.logger.debug("the guest's console", metadata: ["console": "\(console)"])
  }

  static func failure(_ error: any Error, _ verb: String) -> MartletError {
    switch error {
    case let error as MartletError: error
    case is CancellationError: MartletError(.canceled, "the sandbox was destroyed at the same time")
    default: MartletError(.agentError, "the host could not \(verb) the sandbox; its log has the details", cause: error)
    }
  }
}
