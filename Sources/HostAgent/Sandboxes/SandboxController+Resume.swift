import Concurrency
import HostAPI
import Logging
import Model
import Snapshots

extension SandboxController {
  /// Restores the sandbox. On failure it stays paused, with the same generations.
  func performResume(_ options: ResumeOptions) async throws -> HostSandbox {
    switch lifecycle.state {
    case .running: return report
    case .paused: break
    default: throw MartletError.invalidState(id, is: report.status, needs: "paused")
    }
    let id = try chosenGeneration(options)
    guard lifecycle.handle(.resumeRequested) == .proceed else { throw CancellationError() }
    let begin = ContinuousClock.now
    do {
      try await restorePaused(id, options)
      guard lifecycle.handle(.resumed) == .proceed else { throw CancellationError() }
      await failIfRunning()
    } catch {
      try await abandonResume(error, options)
    }
    // What was set while the sandbox was resumed counts, not what the resume began with.
    activity.setTimeout(entry.spec.timeoutSeconds)
    activity.touch()
    context.logger.info(
      "resumed",
      metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)", "phases.ms": "\(timings.text)"])
    return report
  }

  private func chosenGeneration(_ options: ResumeOptions) throws -> GenerationID {
    let index = options.usesPreviousGeneration ? 1 : 0
    guard entry.generations.indices.contains(index) else {
      throw MartletError(
        .notFound, "sandbox \(id) has no \(options.usesPreviousGeneration ? "previous " : "")generation to resume")
    }
    return entry.generations[index]
  }

  private func restorePaused(_ id: GenerationID, _ options: ResumeOptions) async throws {
    timings = PhaseTimings()
    // An earlier pause may have left resources that could not be removed then.
    if instance != nil { await tearDown() }
    guard instance == nil else {
      throw MartletError(.agentError, "the sandbox's previous microVM could not be removed yet; try again")
    }
    entry.phase = .resuming
    entry.spec.timeoutSeconds = options.timeoutSeconds
    let generation = try await context.generations.generation(id)
    try await context.instances.restoreSlots.withPermit {
      try await self.restoreNow(generation, token: self.entry.accessToken, template: nil, isShared: false)
    }
    if options.usesPreviousGeneration { entry.generations = [id] }
    try await commitRunning()
  }

  private func abandonResume(_ error: any Error, _ options: ResumeOptions) async throws -> Never {
    context.logger.warning("resume failed", metadata: ["error": "\(error)"])
    await logConsole()
    if lifecycle.handle(.resumeFailed) == .proceed {
      entry.phase = .paused
      try? await context.journal.update(entry)
      let timings = timings
      await Task { await self.tearDown() }.value
      self.timings = timings
    }
    throw addingAdvice(Self.failure(error, "resume"), options)
  }

  /// Adds advice to the error when a generation cannot be restored.
  private func addingAdvice(_ failure: MartletError, _ options: ResumeOptions) -> MartletError {
    guard failure.code == .snapshotDamaged || failure.code == .snapshotIncompatible else { return failure }
    let advice =
      !options.usesPreviousGeneration && entry.generations.count > 1
      ? "an older generation exists: resume with generation \"previous\""
      : "there is no older generation to resume"
    return MartletError(failure.code, "\(failure.message); \(advice)", cause: failure.cause)
  }
}
