package import Foundation
package import HostAPI
import Logging
package import Model

extension HostAgent {
  package func quarantine() async throws -> HostQuarantine {
    var items = await named.quarantinedItems()
    for controller in allControllers {
      if let item = await controller.quarantinedItem { items.append(item) }
    }
    return HostQuarantine(
      installation: configuration.installation,
      items: items.sorted { ($0.quarantinedAt, $0.id) < ($1.quarantinedAt, $1.id) })
  }

  package func quarantineSandbox(_ id: SandboxID) async throws {
    try await controller(id).quarantine()
  }

  package func quarantineSnapshot(_ name: SafeName, team: TeamID, createdAt: Date) async throws {
    try await named.quarantine(name, team: team, createdAt: createdAt)
    logger.warning("snapshot quarantined", metadata: ["snapshot.name": "\(name)", "team.id": "\(team)"])
  }

  package func releaseSandbox(_ id: SandboxID, to team: TeamID) async throws -> HostSandbox {
    try await controller(id).release(to: team)
  }

  package func releaseSnapshot(_ id: GenerationID, as name: SafeName, team: TeamID) async throws -> HostTemplate {
    try await named.release(id, as: name, team: team)
  }

  package func removeQuarantinedSnapshot(_ id: GenerationID) async throws {
    try await named.removeQuarantined(id)
  }
}
