import Concurrency
package import HostAPI
package import Model

/// Chooses the host of a new sandbox among those that have its template.
package protocol Scheduler: Sendable {
  /// - Parameter candidates: not empty.
  func choose(_ candidates: [any HostClient], for spec: SandboxSpec) -> any HostClient
}

/// Chooses hosts in turn.
package final class RoundRobinScheduler: Scheduler {
  private let turn = Mutex(0)

  package init() {}

  package func choose(_ candidates: [any HostClient], for spec: SandboxSpec) -> any HostClient {
    let turn = turn.withLock { turn in
      turn = (turn + 1) % 1_000_000
      return turn
    }
    return candidates[turn % candidates.count]
  }
}
