package import Foundation
import Model
package import Persistence

/// Checks whether a team may create or resume sandboxes: quotas, and repeated requests with an idempotency key.
package struct Quotas: Sendable {
  /// How long a client may repeat a create with the same key, in seconds.
  package static let repetitionWindow: TimeInterval = 24 * 3_600

  /// Quotas of teams that have none of their own.
  package static let standard = QuotaRecord(
    sandboxes: 500, vcpus: 1_000, memoryMiB: 2_097_152, diskMiB: 33_554_432, snapshots: 1_000)

  let repository: SandboxRepository
  let defaults: QuotaRecord
  let dependencies: Dependencies

  /// Inserts the rows of new sandboxes of one team, all or none.
  /// - Throws: `quota_exceeded`; `RepeatedRequest` when a request with the same key was made before.
  func admit(_ entries: [(record: SandboxRecord, audit: AuditRecord)], request: IdempotencyRecord? = nil) async throws {
    try await checking {
      try await repository.admit(entries, defaults: defaults, request: request, validity: Self.repetitionWindow)
    }
  }

  /// Runs `work` and maps an `AdmissionRefusal` to the error for the tenant.
  func checking<Value>(_ work: () async throws -> Value) async throws -> Value {
    do {
      return try await work()
    } catch let refusal as AdmissionRefusal {
      throw Self.error(refusal)
    }
  }

  /// The tenant's error for a refusal.
  private static func error(_ refusal: AdmissionRefusal) -> any Error {
    switch refusal {
    case .quota(let what, let limit, let used, let requested):
      MartletError(
        .quotaExceeded,
        "the team's \(what) is \(limit): it has \(used) and this needs \(requested) more; "
          + "\(remedy(what)), or ask an administrator"
      )
    case .teamIsGone: MartletError(.noTeam, "the team was deleted")
    case .repeated(let earlier): RepeatedRequest(earlier: earlier)
    }
  }

  private static func remedy(_ what: String) -> String {
    switch what {
    case "max_snapshots": "delete snapshots"
    case "max_disk_mb": "destroy sandboxes or delete snapshots"
    default: "destroy or pause sandboxes"
    }
  }

  /// Deletes expired idempotency keys.
  func deleteExpiredRequests() async throws {
    try await repository.deleteRequests(before: dependencies.now().addingTimeInterval(-Self.repetitionWindow))
  }
}

/// A create request whose idempotency key was used before.
struct RepeatedRequest: Error {
  let earlier: IdempotencyRecord
}
