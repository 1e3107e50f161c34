import Concurrency
package import HostAPI
import Model
package import Persistence

extension AdminService {
  /// Sandboxes of all teams, newest first.
  package func sandboxes(
    _ filter: SandboxFilter, for caller: Caller
  ) async throws -> (page: [SandboxRecord], next: SandboxCursor?) {
    try caller.principal.requireAdmin()
    var filter = filter
    let limit = min(max(filter.limit, Limits.listPage.lowerBound), Limits.listPage.upperBound)
    filter.limit = limit + 1
    let records = try await sandboxRepository.listAll(filter)
    let page = Array(records.prefix(limit))
    return (page, records.count > limit ? page.last.map { SandboxCursor($0) } : nil)
  }

  package func hosts(for caller: Caller) async throws -> [HostSummary] {
    try caller.principal.requireAdmin()
    return await withTaskGroup { group in
      for host in await directory.hosts() { group.addTask { await Self.summary(of: host) } }
      return await group.reduce(into: []) { $0.append($1) }.sorted { $0.id < $1.id }
    }
  }

  /// Templates and named snapshots of all teams, ordered by name.
  package func templates(for caller: Caller) async throws -> [HostTemplate] {
    try caller.principal.requireAdmin()
    return await withTaskGroup { group in
      for host in await directory.hosts() {
        group.addTask {
          (try? await waitAtMost(Placement.listDeadline, throwing: Self.hostTimeout) {
            try await host.listTemplates(nil)
          })
            ?? []
        }
      }
      let all = await group.reduce(into: [String: HostTemplate]()) { all, templates in
        for template in templates { all["\(template.name)/\(template.teamID)"] = template }
      }
      return all.sorted { $0.key < $1.key }.map(\.value)
    }
  }

  private static var hostTimeout: MartletError { MartletError(.hostUnavailable, "the host does not respond") }

  private static func summary(of host: any HostClient) async -> HostSummary {
    let sandboxes = try? await waitAtMost(Placement.listDeadline, throwing: hostTimeout) {
      try await host.listSandboxes()
    }
    return HostSummary(
      id: host.hostID, isReachable: sandboxes != nil, sandboxes: sandboxes?.count ?? 0,
      running: sandboxes?.count { $0.status == .running } ?? 0)
  }
}
