import Logging
import ServiceLifecycle

/// Runs the agent's recurring work until shutdown. Sandboxes live on when it ends.
package struct HostMaintenance: Service {
  private let agent: HostAgent

  package init(agent: HostAgent) {
    self.agent = agent
  }

  package func run() async throws {
    try? await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        await agent.maintain()
        try await Task.sleep(for: agent.configuration.maintenanceInterval)
      }
    }
  }
}
