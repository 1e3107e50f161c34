import Logging
import Model
import Snapshots

extension SandboxController {
  private static let interrupted = "the host agent was restarted while the sandbox was being created"
  private static let lost = "the VMM ended while the host agent was down"

  /// Recovers the sandbox after a restart of the host agent: adopts a running VMM, and completes or reverts the
  /// interrupted operation.
  /// - Throws: when the state of the sandbox cannot be determined; nothing was changed then.
  func performRecovery() async throws {
    switch entry.phase {
    case .creating: await withdraw(reason: Self.interrupted)
    case .running: try await recoverRunning()
    case .pausing: try await recoverPausing()
    case .paused: await tearDown()
    case .resuming: await recoverResuming()
    case .failed: await performRelease(reason: entry.reason ?? Self.lost)
    case .destroying: try? await performDestroy()
    }
  }

  private func recoverRunning() async throws {
    guard try await adopt() else { return await fail(Self.lost) }
  }

  /// The guest may be stopped in the middle of a checkpoint: it continues, and a pause must be requested again. If only
  /// the complete generation is left, the sandbox is paused.
  private func recoverPausing() async throws {
    if try await adopt() {
      lifecycle = SandboxLifecycle(.running)
      entry.phase = .running
      entry.pending = nil
      return await write()
    }
    guard let pending = entry.pending, try await isUsable(pending) else { return await fail(Self.lost) }
    lifecycle = SandboxLifecycle(.paused)
    entry.phase = .paused
    entry.generations = [pending] + entry.generations.prefix(1)
    entry.pending = nil
    await write()
    await tearDown()
  }

  /// The restored microVM had not responded to a client yet; the generation is unchanged.
  private func recoverResuming() async {
    lifecycle = SandboxLifecycle(.paused)
    entry.phase = .paused
    await write()
    await tearDown()
  }

  /// Whether a generation was published and is sound.
  /// - Throws: when the store could not be read, which tells nothing about the generation.
  private func isUsable(_ generation: GenerationID) async throws -> Bool {
    do {
      _ = try await context.generations.generation(generation)
      return true
    } catch {
      switch error.code {
      case .notFound, .snapshotDamaged, .snapshotIncompatible: return false
      default: throw error
      }
    }
  }

  private func adopt() async throws -> Bool {
    guard let instance, let address = await instance.entry.hostAddress, try await instance.adopt() else { return false }
    let guest = context.parts.guests.guest(at: address, accessToken: entry.accessToken, id: id)
    await instance.resumeAndThaw(guest)
    setGuest(guest)
    await take(instance)
    return true
  }

  private func fail(_ reason: String) async {
    lifecycle = SandboxLifecycle(.failed(reason: reason))
    context.logger.warning("lost", metadata: ["reason": "\(reason)"])
    await performRelease(reason: reason)
  }

  private func write() async {
    do {
      try await context.journal.update(entry)
    } catch {
      context.logger.error("the journal was not written", metadata: ["error": "\(error)"])
    }
  }
}
