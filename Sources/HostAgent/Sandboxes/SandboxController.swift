import Concurrency
import Foundation
import HostAPI
import Hypervisor
import Logging
import Model

/// The only writer of one sandbox.
///
/// Lifecycle operations run one after the other, in the order of their requests, in tasks of their own: a client that
/// disconnects changes nothing. `SandboxLifecycle` decides which operation is permitted at the moment when its turn
/// comes; this actor performs it.
actor SandboxController {
  /// Operations that may be queued at the same time, the one under way included. Requests beyond them are refused;
  /// a destroy request never is.
  static let maximumPendingOperations = 32

  nonisolated let id: SandboxID
  /// Counts work in the guest. Readable without entering the actor, which may be busy.
  nonisolated let activity: ActivityMeter
  let context: ControllerContext
  var entry: SandboxEntry
  var lifecycle: SandboxLifecycle
  var instance: Instance?
  var timings = PhaseTimings()
  private(set) var guest: (any Guest)?
  /// The checkpoint that the sandbox is created from; nil for a template.
  let frozen: FrozenSandbox?
  private var lastOperation: Task<Void, Never>?
  private var pendingOperations = 0
  /// Callers of `drain`, by number.
  private var drainWaiters: [Int: CheckedContinuation<Void, Never>] = [:]
  private var drainCount = 0
  /// The removal that is queued or under way; later destroy requests wait for it too.
  private var removal: Task<Void, any Error>?
  /// Operations that a destroy request cancels.
  private var cancellable: [Int: Task<HostSandbox, any Error>] = [:]
  private var operationCount = 0
  /// The VMM's end during an operation; the operation's outcome decides what it means.
  var unexpectedEnd: VMMExit?
  var awaitsQuarantinePause = false
  /// When a sandbox in quarantine that runs is to be paused.
  var nextQuarantinePause = ContinuousClock.now

  /// - Parameters:
  ///   - entry: a new entry in phase `creating`, or one from the journal after a restart.
  ///   - instance: the microVM of an entry from the journal.
  ///   - frozen: the checkpoint that a new sandbox is created from; nil for a template.
  init(entry: SandboxEntry, instance: Instance? = nil, frozen: FrozenSandbox? = nil, context: ControllerContext) {
    id = entry.id
    self.entry = entry
    self.instance = instance
    self.frozen = frozen
    activity = ActivityMeter(timeoutSeconds: entry.spec.timeoutSeconds)
    var context = context
    context.logger[metadataKey: "sandbox.id"] = "\(entry.id)"
    self.context = context
    lifecycle = SandboxLifecycle(Self.state(of: entry))
  }

  private static func state(of entry: SandboxEntry) -> SandboxLifecycle.State {
    switch entry.phase {
    case .creating: .creating
    case .running: .running
    case .pausing: .pausing
    case .paused: .paused
    case .resuming: .resuming
    case .failed: .failed(reason: entry.reason ?? "the sandbox failed")
    case .destroying: .destroying
    }
  }

  var report: HostSandbox {
    let (status, reason): (SandboxStatus, String?) =
      switch lifecycle.state {
      case .creating: (.starting, nil)
      case .running: (.running, nil)
      case .pausing: (.pausing, nil)
      case .paused: (.paused, entry.reason)
      case .resuming: (.resuming, nil)
      case .failed(let reason): (.error, reason)
      case .destroying: (.destroying, nil)
      case .removed: (.stopped, nil)
      }
    return HostSandbox(
      id: id, status: status, vcpus: entry.spec.vcpus, memoryMiB: entry.spec.memoryMiB,
      diskSizeMiB: entry.spec.diskSizeMiB,
      guestIP: GuestContract.guestAddress.description, hostIP: entry.hostAddress?.description,
      isolation: entry.isolation,
      startedAt: entry.startedAt, lastActiveAt: activity.lastActiveAt ?? entry.startedAt, reason: reason,
      isAutoPaused: lifecycle.state == .paused && entry.isAutoPaused, timings: timings.phases)
  }

  /// The guest of a running sandbox.
  /// - Throws: `invalid_state` when the sandbox is not running.
  func runningGuest() throws -> any Guest {
    guard lifecycle.state == .running, let guest else {
      throw MartletError.invalidState(id, is: report.status, needs: "running")
    }
    return guest
  }

  /// Sets the idle time-out of a running sandbox; 0 means none.
  func setTimeout(_ seconds: Int) async throws {
    guard (Limits.timeoutSeconds).contains(seconds) else {
      throw MartletError(
        .invalidRequest,
        "timeout_sec must be between \(Limits.timeoutSeconds.lowerBound) and \(Limits.timeoutSeconds.upperBound)")
    }
    entry.spec.timeoutSeconds = seconds
    activity.setTimeout(seconds)
    activity.touch()
    try await context.journal.update(entry)
  }

  // MARK: - Operations

  func create() async throws -> HostSandbox {
    try await perform { try await self.performCreate() }
  }

  /// Pauses the sandbox. Success if it is paused already.
  func pause() async throws -> HostSandbox {
    try await perform { try await self.performPause(isAutomatic: false) }
  }

  /// Pauses the sandbox if it is still idle when the operation's turn comes.
  func pauseIfIdle() async {
    guard lifecycle.state == .running, pendingOperations == 0, activity.isExpired else { return }
    do {
      _ = try await perform {
        guard await self.isStillIdle else { return await self.report }
        return try await self.performPause(isAutomatic: true)
      }
    } catch {
      // The sandbox continues, or it has failed and reports that; the reaper's next round tries again.
      context.logger.warning("an idle sandbox was not paused", metadata: ["error": "\(error)"])
      activity.postpone()
    }
  }

  private var isStillIdle: Bool { lifecycle.state == .running && activity.isExpired }

  /// Resumes the sandbox. Success if it runs already.
  func resume(_ options: ResumeOptions) async throws -> HostSandbox {
    try await perform { try await self.performResume(options) }
  }

  func checkpoint() async throws -> FrozenSandbox {
    try requireRoom()
    return try await enqueue { try await self.performCheckpoint() }.value
  }

  func destroy() async throws {
    switch lifecycle.handle(.destroyRequested) {
    case .cancelWork:
      for work in cancellable.values { work.cancel() }
      try await removeOnce().value
    case .removeEverything:
      try await removeOnce().value
    case .ignore where lifecycle.state == .destroying:
      try await removeOnce().value
    default:
      break  // Removed already.
    }
  }

  /// Queues the removal, once however often it is requested.
  private func removeOnce() -> Task<Void, any Error> {
    if let removal { return removal }
    let task = enqueue { try await self.performRemoval() }
    removal = task
    return task
  }

  private func performRemoval() async throws {
    defer { removal = nil }
    try await performDestroy()
  }

  /// Recovers the sandbox after a restart of the host agent, according to the journaled phase.
  /// - Throws: when the state of the sandbox cannot be determined; nothing was changed then.
  func recover() async throws {
    try await enqueue { try await self.performRecovery() }.value
  }

  func vmmEnded(_ instance: InstanceID, _ exit: VMMExit) async {
    guard self.instance?.id == instance else { return }
    unexpectedEnd = exit
    await failIfRunning()
  }

  /// Marks a running sandbox as failed if its VMM has ended.
  func failIfRunning() async {
    guard let exit = unexpectedEnd else { return }
    let reason = exit.tenantReason
    guard case .releaseRuntime = lifecycle.handle(.vmmEnded(reason: reason)) else { return }
    context.logger.warning("the microVM of a running sandbox ended", metadata: ["reason": "\(exit.reason)"])
    setGuest(nil)
    _ = enqueue { await self.performRelease(reason: reason) }
  }

  /// Repeats a failed removal. Does nothing while a removal is under way.
  func retryRemoval() async {
    guard lifecycle.state == .destroying, pendingOperations == 0 else { return }
    _ = try? await removeOnce().value
  }

  func drainConsole() async {
    guard lifecycle.state == .running || lifecycle.state == .creating else { return }
    await instance?.drainConsole()
  }

  /// Waits until no operation is queued or under way, or the calling task is cancelled.
  /// - Returns: whether none is left.
  func drain() async -> Bool {
    drainCount += 1
    let number = drainCount
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        guard pendingOperations > 0, !Task.isCancelled else { return continuation.resume() }
        drainWaiters[number] = continuation
      }
    } onCancel: {
      // The actor is only reachable asynchronously from here.
      Task { await self.abandonDrain(number) }
    }
    return pendingOperations == 0
  }

  private func abandonDrain(_ number: Int) {
    drainWaiters.removeValue(forKey: number)?.resume()
  }

  private func operationEnded() {
    pendingOperations -= 1
    guard pendingOperations == 0 else { return }
    for waiter in drainWaiters.values { waiter.resume() }
    drainWaiters = [:]
  }

  /// - Throws: `rate_limited` when too many operations wait.
  private func requireRoom() throws(MartletError) {
    guard pendingOperations < Self.maximumPendingOperations else {
      throw MartletError(
        .rateLimited, "\(Self.maximumPendingOperations) operations on sandbox \(id) wait already; try again later",
        retryAfterSeconds: 2)
    }
  }

  func perform(_ operation: @escaping @Sendable () async throws -> HostSandbox) async throws -> HostSandbox {
    try requireRoom()
    let task = enqueue(operation)
    operationCount += 1
    let number = operationCount
    cancellable[number] = task
    defer { cancellable[number] = nil }
    return try await task.value
  }

  /// Runs `operation` after all earlier ones, even if the caller is cancelled.
  func enqueue<Result: Sendable>(_ operation: @escaping @Sendable () async throws -> Result) -> Task<Result, any Error>
  {
    let previous = lastOperation
    pendingOperations += 1
    let task = Task {
      await previous?.value
      return try await operation()
    }
    lastOperation = Task {
      _ = await task.result
      operationEnded()
    }
    return task
  }

  // MARK: - Shared by the operations

  func setGuest(_ guest: (any Guest)?) {
    self.guest = guest
    if guest == nil { activity.interrupt() }
  }

  /// Makes a running microVM the sandbox's own.
  func take(_ instance: Instance) async {
    self.instance = instance
    let id = instance.id
    await instance.onUnexpectedEnd { [weak self] exit in await self?.vmmEnded(id, exit) }
  }
}

/// Dependencies shared by all controllers of a host.
struct ControllerContext: Sendable {
  let configuration: HostConfiguration
  let parts: HostParts
  let journal: Journal
  let instances: InstanceFactory
  let generations: GenerationKeeper
  let templates: TemplateSnapshots
  let warmPool: WarmPool
  let named: NamedSnapshots
  let observer: StepObserver
  /// Bounds the concurrent pauses of quarantined sandboxes: there may be very many at once.
  let quarantinePauses: AsyncSemaphore
  /// Removes the controller from the registry; called once, when the sandbox has been removed.
  let forget: @Sendable (SandboxID) -> Void
  var logger: Logger
}
