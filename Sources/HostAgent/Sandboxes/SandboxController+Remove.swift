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
      context.logger.error("could not be destroyed, will be tried again", metadata: ["error": "\(error)"])
      throw MartletError(
        .internalError, "sandbox \(id) could not be removed completely; the host keeps trying", cause: error)
    }
    _ = lifecycle.handle(.destroyed)
    context.logger.info("destroyed", metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
  }

  /// The microVM first, then the journal's row; generations that nobody needs any more are collected.
  func removeEverything() async throws {
    setGuest(nil)
    try await instance?.remove()
    instance = nil
    try await context.journal.remove(id)
    context.forget(id)
    context.generations.collectSoon()
  }

  /// Ends the runtime of a sandbox whose VMM is gone. The disk and the console stay for whoever wants to know what
  /// happened.
  func performRelease(reason: String) async {
    guard case .failed = lifecycle.state else { return }
    entry.phase = .failed
    entry.reason = reason
    do {
      try await context.journal.update(entry)
      try await instance?.release()
    } catch {
      context.logger.error("resources of a failed sandbox are left", metadata: ["error": "\(error)"])
    }
    setGuest(nil)
  }

  /// Removes everything but the journal's row, which tells the control plane what became of the sandbox.
  func withdraw(reason: String) async {
    lifecycle = SandboxLifecycle(.failed(reason: reason))
    context.logger.warning("withdrawn", metadata: ["reason": "\(reason)"])
    entry.phase = .failed
    entry.reason = reason
    do {
      try await context.journal.update(entry)
      try await instance?.remove()
      instance = nil
      entry.instance = nil
      try await context.journal.update(entry)
    } catch {
      context.logger.error("resources of an interrupted creation are left", metadata: ["error": "\(error)"])
    }
  }
}
