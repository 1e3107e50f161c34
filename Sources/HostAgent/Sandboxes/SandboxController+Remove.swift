import HostAPI
import Logging
import Model

extension SandboxController {
  func performDestroy() async throws {
    guard lifecycle.state == .destroying else { return }
    let begin = ContinuousClock.now
    entry.phase = .destroying
    do {
      try await context.journal.update(entry)
      try await removeEverything()
    } catch {
      context.logger.error("destroy failed, will be tried again", metadata: ["error": "\(error)"])
      throw MartletError(
        .internalError, "sandbox \(id) could not be removed completely; the host keeps trying", cause: error)
    }
    _ = lifecycle.handle(.destroyed)
    context.logger.info("destroyed", metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
  }

  /// Removes the microVM first, then the journal's row. Generations that are no longer needed are collected.
  func removeEverything() async throws {
    setGuest(nil)
    try await instance?.remove()
    instance = nil
    try await context.journal.remove(id)
    context.forget(id)
    context.generations.requestCollection()
  }

  /// Releases the resources of a sandbox whose VMM has ended. Disk and console stay for diagnosis.
  func performRelease(reason: String) async {
    guard case .failed = lifecycle.state else { return }
    entry.phase = .failed
    entry.reason = reason
    do {
      try await context.journal.update(entry)
      try await instance?.release()
    } catch {
      context.logger.error("resources of a failed sandbox could not be released", metadata: ["error": "\(error)"])
    }
    setGuest(nil)
  }

  /// Removes everything but the journal's row, from which the control plane learns the sandbox's state.
  func withdraw(reason: String) async {
    lifecycle = SandboxLifecycle(.failed(reason: reason))
    context.logger.warning("interrupted creation removed", metadata: ["reason": "\(reason)"])
    entry.phase = .failed
    entry.reason = reason
    do {
      try await context.journal.update(entry)
      try await instance?.remove()
      instance = nil
      entry.instance = nil
      try await context.journal.update(entry)
    } catch {
      context.logger.error("resources of an interrupted creation could not be removed", metadata: ["error": "\(error)"])
    }
  }
}
