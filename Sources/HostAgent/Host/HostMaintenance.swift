import Logging
import ServiceLifecycle

/// Runs the host agent's recurring work until shutdown. Sandboxes continue to run when it ends.
package struct HostMaintenance: Service {
  private let agent: HostAgent

  package init(agent: HostAgent) {
    self.agent = agent
  }

  package func run() async throws {
    try? await cancelWhenGracefulShutdown {
      // Runs separately, so that a long compaction does not delay the reaper.
      async let tidying: Void = repeating { await agent.tidy() }
      try await repeating { await agent.maintain() }
      try await tidying
    }
  }

  private func repeating(_ round: @Sendable () async -> Void) async throws {
    while !Task.isCancelled {
      await round()
      try await Task.sleep(for: agent.configuration.maintenanceInterval)
    }
  }
}
