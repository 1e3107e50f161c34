import APIClient
import ArgumentParser
import Model

/// A sandbox that exists while a closure runs; it is destroyed whether the closure succeeds, fails or is interrupted.
struct TemporarySandbox: Sendable {
  let client: APIClient
  let console: Console
  let signals: SignalWatcher

  /// - Returns: the result of `body`.
  /// - Throws: errors of the create and of `body`; if `body` succeeded, errors of the destroy, so that a sandbox that
  ///   remains is always reported.
  func run(_ request: SandboxRequest, _ body: (SandboxResource) async throws -> Int32) async throws -> Int32 {
    let (sandbox, signal) = try await Interruption.completing(
      "waiting for the sandbox to be created, to destroy it", signals: signals, console: console
    ) {
      try await client.createSandbox(request)
    }
    let outcome: Result<Int32, any Error>
    if let signal {
      outcome = .failure(ExitCode(128 + signal))
    } else {
      do {
        outcome = .success(try await body(sandbox))
      } catch {
        outcome = .failure(error)
      }
    }
    return try await finish(sandbox.id, outcome)
  }

  private func finish(_ id: SandboxID, _ outcome: Result<Int32, any Error>) async throws -> Int32 {
    do {
      _ = try await Interruption.completing(
        "waiting for sandbox \(id) to be destroyed", signals: signals, console: console
      ) {
        try await client.destroySandbox(id)
      }
    } catch let error as APIError where error.errorCode == .notFound {
      // Another client has destroyed it already.
    } catch {
      await console.complain("sandbox \(id) may still exist; remove it with `martlet kill \(id)`")
      guard case .failure(let original) = outcome else { throw error }
      throw original
    }
    return try outcome.get()
  }
}
