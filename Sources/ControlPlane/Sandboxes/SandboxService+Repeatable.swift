import Crypto
import Foundation
import Model
import Persistence

/// A create request with an idempotency key: the client may repeat it without creating a second sandbox.
package struct RepeatableRequest: Sendable {
  /// Chosen by the client.
  let key: String
  /// SHA-256 of the request's meaning: equal for equal requests, regardless of how their JSON is formatted.
  let hash: [UInt8]

  /// - Throws: `invalid_request` for a key that contains other characters than visible ASCII.
  init(key: String, _ new: NewSandbox) throws {
    guard Limits.idempotencyKeyBytes.contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else {
      throw MartletError(
        .invalidRequest,
        "Idempotency-Key must have 1 to \(Limits.idempotencyKeyBytes.upperBound) visible ASCII characters")
    }
    self.key = key
    var spec = new.spec(team: .platform)
    spec.id = SandboxID(TeamID.platform.uuid)
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    hash = Array(SHA256.hash(data: try encoder.encode(spec) + Data([new.autoResumes ? 1 : 0])))
  }

  func record(for sandbox: SandboxRecord) -> IdempotencyRecord {
    IdempotencyRecord(
      teamID: sandbox.teamID, key: key, requestHash: hash, sandboxID: sandbox.id, createdAt: sandbox.createdAt)
  }
}

extension SandboxService {
  private static let statusPollInterval: Duration = .milliseconds(100)

  /// Creates a sandbox, or returns the one that the same request of this team created in the last 24 hours.
  ///
  /// A repetition during the first request waits for its result. When the creation fails, the key can be used again.
  /// - Parameter key: the client's `Idempotency-Key`; nil creates without one.
  /// - Throws: what `create` throws; `idempotency_conflict` when the key was used for a different request.
  package func create(_ new: NewSandbox, for caller: Caller, idempotencyKey key: String?) async throws -> SandboxResult
  {
    guard let key else { return try await create(new, for: caller) }
    let request = try RepeatableRequest(key: key, new)
    let since = now.addingTimeInterval(-Quotas.repetitionWindow)
    if let earlier = try await repository.earlierRequest(team: caller.teamID, key: key, since: since) {
      return try await repeated(request, earlier, for: caller)
    }
    do {
      return try await create(new, for: caller, request: request)
    } catch let repetition as RepeatedRequest {
      return try await repeated(request, repetition.earlier, for: caller)
    }
  }

  private func repeated(
    _ request: RepeatableRequest, _ earlier: IdempotencyRecord, for caller: Caller
  ) async throws -> SandboxResult {
    guard request.hash == earlier.requestHash else {
      throw MartletError(.idempotencyConflict, "this Idempotency-Key was used for another request; choose a new one")
    }
    let deadline = ContinuousClock.now + Self.createDeadline
    while true {
      let record = try await sandbox(earlier.sandboxID, for: caller)
      switch record.status {
      case .pending, .starting:
        guard ContinuousClock.now < deadline else {
          throw MartletError(.deadlineExceeded, "sandbox \(record.id) is still being created; query its status later")
        }
        try await Task.sleep(for: Self.statusPollInterval)
      case .error where record.facts.startedAt == nil, .destroying where record.facts.startedAt == nil,
        .stopped where record.facts.startedAt == nil:
        throw MartletError(
          .invalidState, "sandbox \(record.id) could not be created: \(record.error ?? "unknown"); try again")
      default:
        return SandboxResult(record: record, timings: [])
      }
    }
  }
}
