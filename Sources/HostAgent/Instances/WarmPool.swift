import Concurrency
import HostAPI
import Logging
import Model
import Snapshots

/// MicroVMs that are restored and run before a create needs them, so that a new sandbox only has to be initialized.
///
/// They are made from templates' own snapshots and hold no tenant's data. The pool keeps the kind that was requested
/// last. A restarted host agent removes the members of its predecessor, because no sandbox refers to them.
actor WarmPool {
  /// The snapshot that a pool member is restored from; it determines the sandboxes that the member can become.
  struct Kind: Sendable, Hashable {
    var key: TemplateSnapshotKey
    var generation: GenerationID
  }

  private struct Member {
    let kind: Kind
    let instance: Instance
  }

  /// A member is made only after this time without a request for a sandbox: waiting clients have priority.
  private static let quietTime: Duration = .milliseconds(200)
  private static let deadline: Duration = .seconds(60)

  private let capacity: Int
  private let factory: InstanceFactory
  private let generations: GenerationKeeper
  private let guests: any GuestConnector
  private let logger: Logger
  private var members: [Member] = []
  private var requestedKind: Kind?
  private var lastRequest = ContinuousClock.now
  private var filling: Task<Void, Never>?
  private var isClosed = false

  /// - Parameter capacity: maximum number of members; 0 disables the pool.
  init(
    capacity: Int, factory: InstanceFactory, generations: GenerationKeeper, guests: any GuestConnector, logger: Logger
  ) {
    self.capacity = capacity
    self.factory = factory
    self.generations = generations
    self.guests = guests
    self.logger = logger
  }

  /// Generations that the running members need.
  var neededGenerations: Set<GenerationID> {
    get async {
      var needed: Set<GenerationID> = []
      for member in members { needed.formUnion(await member.instance.entry.neededGenerations) }
      return needed
    }
  }

  var instances: [Instance] { members.map(\.instance) }

  /// Removes a member of this kind from the pool; the caller owns it from now on.
  func take(_ kind: Kind) async -> Instance? {
    request(kind)
    while let index = members.firstIndex(where: { $0.kind == kind }) {
      let instance = members.remove(at: index).instance
      guard await instance.unexpectedEnd == nil else {
        await remove(instance)
        continue
      }
      return instance
    }
    return nil
  }

  /// Ends all members and stops filling the pool.
  func close() async {
    isClosed = true
    filling?.cancel()
    await filling?.value
    // What is not removed in time the next start removes.
    while !Task.isCancelled, let member = members.popLast() { await remove(member.instance) }
  }

  // MARK: - Filling

  /// Records that sandboxes of this kind are likely to be requested.
  func request(_ kind: Kind) {
    guard capacity > 0, !isClosed else { return }
    requestedKind = kind
    lastRequest = .now
    guard filling == nil else { return }
    // Owned by this actor: `close` waits for it.
    filling = Task {
      await fill()
      filling = nil
    }
  }

  private func fill() async {
    while !isClosed, let kind = requestedKind {
      while ContinuousClock.now - lastRequest < Self.quietTime, !Task.isCancelled {
        try? await Task.sleep(for: Self.quietTime)
      }
      guard !Task.isCancelled, await removeOther(for: kind), requestedKind == kind else { return }
      guard let instance = await make(kind) else { return }
      members.append(Member(kind: kind, instance: instance))
    }
  }

  /// Removes a member of another kind when the pool is full.
  /// - Returns: false when the pool is full of this kind.
  private func removeOther(for kind: Kind) async -> Bool {
    guard members.count >= capacity else { return true }
    guard let index = members.firstIndex(where: { $0.kind != kind }) else { return false }
    await remove(members.remove(at: index).instance)
    return true
  }

  private func make(_ kind: Kind) async -> Instance? {
    generations.hold(kind.generation)
    defer { generations.release(kind.generation) }
    let shape = kind.key.shape
    let spec = SandboxSpec(
      teamID: .platform, vcpus: shape.vcpus, memoryMiB: shape.memoryMiB, diskSizeMiB: shape.diskSizeMiB)
    guard let instance = try? factory.make(spec, origin: kind.generation) else { return nil }
    do {
      let generation = try await generations.generation(kind.generation)
      try await withDeadline(Self.deadline) { try await self.start(instance, generation) }
      logger.debug("a pool member is ready", metadata: ["instance.id": "\(instance.id)"])
      return instance
    } catch {
      logger.warning("a pool member could not be started", metadata: ["error": "\(error)"])
      await remove(instance)
      return nil
    }
  }

  private nonisolated func start(_ instance: Instance, _ generation: Generation) async throws {
    try await factory.restoreSlots.withPermit {
      try await instance.restore(generation, isShared: true)
      try await instance.run()
    }
    guard let address = await instance.entry.hostAddress else { return }
    let guest = guests.guest(at: address, accessToken: nil, id: SandboxID(instance.id.uuid))
    try await instance.whileAlive {
      // The first calls are slow, so they are made before a sandbox uses the guest.
      try await guest.warmUp()
    }
  }

  private func remove(_ instance: Instance) async {
    do {
      try await instance.remove()
    } catch {
      logger.error(
        "resources of a pool member could not be removed",
        metadata: ["instance.id": "\(instance.id)", "error": "\(error)"])
    }
  }
}
