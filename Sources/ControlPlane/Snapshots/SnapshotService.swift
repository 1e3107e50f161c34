import Foundation
package import HostAPI
import Logging
package import Model
package import Persistence

/// Manages named snapshots, from which sandboxes are created, and lists templates.
///
/// The row is written before the host is called and updated afterwards, so that the monitor can repair it after a
/// crash. The database is authoritative for the names of a team's snapshots and the hosts that store them.
package struct SnapshotService: Sendable {
  /// Time limit of a snapshot; saving the memory of a large guest takes minutes.
  static let createDeadline: Duration = .seconds(600)
  static let deleteDeadline: Duration = .seconds(30)

  let sandboxes: SandboxService

  var repository: SnapshotRepository { sandboxes.snapshots }
  var logger: Logger { sandboxes.logger }
  var now: Date { sandboxes.now }

  /// Templates from which the caller can create sandboxes, ordered by name. A team's own template hides one of the
  /// platform with the same name.
  /// - Parameters:
  ///   - kind: nil for both kinds.
  ///   - after: the last name of the previous page.
  /// - Returns: a page, and the cursor of the next one if there is more.
  package func list(
    _ kind: HostTemplate.Kind?, after: SafeName? = nil, limit: Int, for caller: Caller
  ) async throws -> (page: [HostTemplate], next: SafeName?) {
    let limit = min(max(limit, Limits.listPage.lowerBound), Limits.listPage.upperBound)
    var found: [HostTemplate] = []
    if kind != .base {
      // A name may occur twice; the team's own is first.
      found += try await repository.visible(to: caller.teamID, after: after, limit: 2 * limit + 2).map(\.template)
    }
    if kind != .snapshot {
      found += try await sandboxes.placement.templates(visibleTo: caller.teamID).filter {
        after == nil || $0.name.value > after?.value ?? ""
      }
    }
    let byName = Dictionary(found.map { ($0.name, $0) }) { first, second in
      first.teamID == caller.teamID ? first : second
    }
    let sorted = byName.values.sorted { $0.name < $1.name }
    let page = Array(sorted.prefix(limit))
    return (page, sorted.count > limit ? page.last?.name : nil)
  }

  /// A base template that the caller sees, or a snapshot of the platform, with this name.
  func sharedTemplate(_ name: SafeName, for caller: Caller) async throws -> HostTemplate? {
    if let snapshot = try await repository.visible(name, to: .platform) { return snapshot.template }
    return try await sandboxes.placement.templates(visibleTo: caller.teamID).first { $0.name == name }
  }

  func audit(_ action: String, _ name: SafeName, outcome: String, for caller: Caller) -> AuditRecord {
    caller.audit(action, of: "snapshot", name.value, outcome: outcome, at: now)
  }
}

extension SnapshotRecord {
  package var template: HostTemplate {
    HostTemplate(
      name: name, teamID: teamID, kind: .snapshot,
      shape: SandboxShape(vcpus: vcpus, memoryMiB: memoryMiB, diskSizeMiB: diskSizeMiB), sizeBytes: sizeBytes,
      createdAt: createdAt)
  }

  var key: WorkKey { .snapshot(teamID, name) }

  /// The row with another status.
  func with(_ status: Status, at time: Date) -> SnapshotRecord {
    var next = self
    next.status = status
    next.lastUpdated = StoredTime.rounded(time)
    return next
  }

  /// The row of a complete snapshot on `host`, with the values that the host reports.
  func published(_ template: HostTemplate, on host: HostID, at time: Date) -> SnapshotRecord {
    var next = with(.ready, at: time)
    if let shape = template.shape {
      next.vcpus = shape.vcpus
      next.memoryMiB = shape.memoryMiB
      next.diskSizeMiB = shape.diskSizeMiB
    }
    next.sizeBytes = template.sizeBytes
    next.hostID = host
    next.createdAt = StoredTime.rounded(template.createdAt)
    return next
  }
}
