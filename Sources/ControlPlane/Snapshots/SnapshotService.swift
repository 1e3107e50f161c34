import Foundation
package import HostAPI
import Logging
package import Model
package import Persistence

/// Named snapshots: sandboxes frozen under a name, from which others are created (SN-1 to SN-6), and the templates
/// beside them.
///
/// The row is written before the host is asked and settled afterwards, so that a crash leaves something to repair; the
/// database owns which names a team has and where their files are.
package struct SnapshotService: Sendable {
  /// Saving the memory of a large guest takes minutes.
  static let createDeadline: Duration = .seconds(600)
  static let deleteDeadline: Duration = .seconds(30)

  let sandboxes: SandboxService

  var repository: SnapshotRepository { sandboxes.snapshots }
  var logger: Logger { sandboxes.logger }
  var now: Date { sandboxes.now }

  /// Templates that the caller can create sandboxes from, by name; a team's own hides the platform's of the same name.
  /// - Parameters:
  ///   - kind: nil for both.
  ///   - after: the last name of the page before.
  /// - Returns: a page, and the cursor of the next one if there is more.
  package func list(
    _ kind: HostTemplate.Kind?, after: SafeName? = nil, limit: Int, for caller: Caller
  ) async throws -> (page: [HostTemplate], next: SafeName?) {
    let limit = min(max(limit, Limits.listPage.lowerBound), Limits.listPage.upperBound)
    var found: [HostTemplate] = []
    if kind != .base {
      // A name may be there twice, the team's own first.
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

  /// A base template that the caller sees, or a snapshot of the platform.
  func foreign(_ name: SafeName, for caller: Caller) async throws -> HostTemplate? {
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

  /// The same row one step on.
  func with(_ status: Status, at time: Date) -> SnapshotRecord {
    var next = self
    next.status = status
    next.lastUpdated = StoredTime.rounded(time)
    return next
  }

  /// The row of a snapshot whose files are on `host`, as that host describes it.
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
