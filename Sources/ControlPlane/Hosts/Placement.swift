import Concurrency
import HostAPI
import Model

/// Finds base templates on hosts, and a host for a new sandbox. The host of a named snapshot is in the database.
struct Placement: Sendable {
  static let listDeadline: Duration = .seconds(10)

  let directory: any HostDirectory
  let scheduler: any Scheduler

  /// Chooses a host that has the base template.
  /// - Throws: `no_hosts_available`, `host_unavailable` when no host responds, `not_found` when no host has the
  ///   template.
  func host(for spec: SandboxSpec) async throws -> any HostClient {
    let hosts = try await templatesByHost()
    let candidates = hosts.filter { host in
      host.templates.contains { $0.name == spec.template && Self.isVisible($0, to: spec.teamID) }
    }
    guard !candidates.isEmpty else {
      throw MartletError(
        .notFound,
        "template \(spec.template) does not exist; `martlet template ls` or GET /v1/snapshots lists those that do")
    }
    return scheduler.choose(candidates.map(\.host), for: spec)
  }

  /// The base templates of the platform and the team, ordered by name.
  func templates(visibleTo team: TeamID) async throws -> [HostTemplate] {
    var byName: [SafeName: HostTemplate] = [:]
    for template in try await templatesByHost().flatMap(\.templates) where Self.isVisible(template, to: team) {
      if byName[template.name]?.teamID != team { byName[template.name] = template }
    }
    return byName.values.sorted { $0.name < $1.name }
  }

  private static func isVisible(_ template: HostTemplate, to team: TeamID) -> Bool {
    template.kind == .base && (template.teamID == team || template.teamID == .platform)
  }

  private func templatesByHost() async throws -> [(host: any HostClient, templates: [HostTemplate])] {
    let hosts = await directory.placeableHosts()
    guard !hosts.isEmpty else {
      throw MartletError(.noHostsAvailable, "no host is registered; add one before creating sandboxes")
    }
    let templatesByIndex = await withTaskGroup { group in
      for (index, host) in hosts.enumerated() {
        group.addTask { (index, try? await Self.templates(of: host)) }
      }
      return await group.reduce(into: [Int: [HostTemplate]]()) { $0[$1.0] = $1.1 }
    }
    let reachable = hosts.indices.compactMap { index in
      templatesByIndex[index].map { (host: hosts[index], templates: $0) }
    }
    guard !reachable.isEmpty else {
      throw MartletError(.hostUnavailable, "no host responds at the moment; try again")
    }
    return reachable
  }

  private static func templates(of host: any HostClient) async throws -> [HostTemplate] {
    try await waitAtMost(listDeadline, throwing: MartletError(.hostUnavailable, "the host does not respond")) {
      try await host.listTemplates(.base)
    }
  }
}
