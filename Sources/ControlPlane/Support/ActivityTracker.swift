import Concurrency
import Foundation
import Model
import Persistence

/// Collects the times at which sandboxes were last used (`last_active_at`), and writes them in batches.
final class ActivityTracker: Sendable {
  private let repository: SandboxRepository
  private let pending = Mutex([SandboxID: Date]())

  init(repository: SandboxRepository) {
    self.repository = repository
  }

  func touch(_ id: SandboxID, at time: Date) {
    pending.withLock { pending in
      if let known = pending[id], known >= time { return }
      pending[id] = time
    }
  }

  func flush() async throws {
    let activity = pending.withLock { pending in
      defer { pending = [:] }
      return pending
    }
    do {
      try await repository.touch(activity)
    } catch {
      for (id, time) in activity { touch(id, at: time) }
      throw error
    }
  }
}
