import HostAPI
import Logging
import Model
import Snapshots

extension SandboxController {
  /// Saves the sandbox and releases everything else. The microVM is kept until the generation is committed, and
  /// continues if anything fails.
  func performPause(isAutomatic: Bool) async throws -> HostSandbox {
    switch lifecycle.state {
    case .paused: return report
    case .running where lifecycle.handle(.pauseRequested) == .proceed: break
    default: throw MartletError.invalidState(id, is: report.status, needs: "running")
    }
    let begin = ContinuousClock.now
    do {
      try await savePause(isAutomatic: isAutomatic)
    } catch {
      try await abandonPause(error)
    }
    let duration = (ContinuousClock.now - begin).milliseconds
    context.logger.info(
      "paused",
      metadata: ["duration.ms": "\(duration)", "phases.ms": "\(timings.text)", "automatic": "\(isAutomatic)"])
    await tearDown()
    context.generations.changed(id)
    return report
  }

  private func savePause(isAutomatic: Bool) async throws {
    guard let instance, let guest else { throw MartletError(.internalError, "the sandbox has no microVM") }
    await shortenChain(of: instance)
    let generation = GenerationID()
    try await context.generations.withHold(on: generation) {
      try await self.saving(.journal) { try await self.writePausing(generation) }
      let request = CheckpointRequest(generation: generation, template: entry.spec.template, continues: false)
      do {
        _ = try await instance.checkpoint(request, guest: guest)
      } catch {
        timings = await instance.timings
        throw error
      }
      timings = await instance.timings
      do {
        try await self.saving(.commit) { try await self.commitPause(generation, isAutomatic: isAutomatic) }
      } catch {
        if lifecycle.state == .pausing { await instance.resumeAndThaw(guest) }
        throw error
      }
    }
  }

  private func writePausing(_ generation: GenerationID) async throws {
    entry.phase = .pausing
    entry.pending = generation
    try await context.journal.update(entry)
  }

  /// Commits the pause: before, the sandbox was the microVM; from here on it is the generation.
  private func commitPause(_ generation: GenerationID, isAutomatic: Bool) async throws {
    let committed = Self.paused(entry, generation, isAutomatic: isAutomatic)
    try await context.journal.updateDurably(committed)
    // A time-out that was set while the row was written is kept: its own row says `pausing` still.
    let changed = Self.paused(entry, generation, isAutomatic: isAutomatic)
    entry = changed
    if changed != committed { try? await context.journal.updateDurably(changed) }
    guard lifecycle.handle(.paused) == .proceed else { throw CancellationError() }
  }

  private static func paused(_ entry: SandboxEntry, _ generation: GenerationID, isAutomatic: Bool) -> SandboxEntry {
    var entry = entry
    entry.phase = .paused
    entry.pending = nil
    entry.isAutoPaused = isAutomatic
    entry.generations = [generation] + entry.generations.prefix(1)
    return entry
  }

  /// The VM is gone before its disk is (TTL-9). What cannot be removed now is removed by the next maintenance.
  func tearDown() async {
    setGuest(nil)
    entry.hostAddress = nil
    guard let instance else { return }
    let begin = ContinuousClock.now
    do {
      try await instance.remove()
      self.instance = nil
      entry.instance = nil
      unexpectedEnd = nil
      try await context.journal.update(entry)
    } catch {
      context.logger.error(
        "resources of a paused sandbox could not be removed, will be tried again", metadata: ["error": "\(error)"])
    }
    timings.add("teardown", since: begin)
  }

  private func abandonPause(_ error: any Error) async throws -> Never {
    context.logger.warning("pause failed", metadata: ["error": "\(error)"])
    if lifecycle.handle(.pauseFailed) == .proceed {
      entry.phase = .running
      entry.pending = nil
      try? await context.journal.update(entry)
      await failIfRunning()
    }
    throw Self.failure(error, "pause")
  }

  func saving(_ step: CheckpointStep, _ body: @Sendable () async throws -> Void) async throws {
    try await context.observer.observe(.beforeSaving(step))
    try await body()
    try await context.observer.observe(.afterSaving(step))
  }

  // MARK: - Freezing for others

  /// Returns the present state of the sandbox, for copies. A running sandbox continues; of a paused one it is the last
  /// generation.
  ///
  /// The generation is held; the caller releases it (`GenerationKeeper.release`).
  func performCheckpoint() async throws -> FrozenSandbox {
    let shape = SandboxShape(
      vcpus: entry.spec.vcpus, memoryMiB: entry.spec.memoryMiB, diskSizeMiB: entry.spec.diskSizeMiB)
    let generation: GenerationID
    switch lifecycle.state {
    case .paused:
      guard let last = entry.generations.first else {
        throw MartletError.invalidState(id, is: report.status, needs: "running or paused")
      }
      context.generations.hold(last)
      generation = last
    case .running:
      generation = try await checkpointRunning()
    default:
      throw MartletError.invalidState(id, is: report.status, needs: "running or paused")
    }
    return FrozenSandbox(
      generation: generation, shape: shape, accessToken: entry.accessToken, environment: entry.environment)
  }

  private func checkpointRunning() async throws -> GenerationID {
    guard let instance, let guest else { throw MartletError(.internalError, "the sandbox has no microVM") }
    await shortenChain(of: instance)
    let generation = GenerationID()
    context.generations.hold(generation)
    do {
      _ = try await instance.checkpoint(
        CheckpointRequest(generation: generation, template: entry.spec.template, continues: true), guest: guest)
      timings = await instance.timings
    } catch {
      context.generations.release(generation)
      await failIfRunning()
      throw Self.failure(error, "snapshot")
    }
    context.logger.info("checkpoint", metadata: ["generation.id": "\(generation)", "phases.ms": "\(timings.text)"])
    return generation
  }
}
