import Foundation
import Logging
import Model
import Persistence
import Synchronization

/// Collects what guests were asked to do and writes it in batches, so that an exec or a file write does not wait for the disk.
///
/// Lifecycle transitions do not come this way: their audit row is part of the transaction. A power failure can lose what was
/// collected since the last flush, `Housekeeping.interval` at most.
final class AuditLog: Sendable {
  /// Beyond this many unwritten rows new ones are dropped (and counted in the log): the database has been away for long.
  static let maximumPending = 50_000

  private let repository: AuditRepository
  private let surroundings: Surroundings
  private let pending = Mutex((records: [AuditRecord](), dropped: 0))

  init(repository: AuditRepository, surroundings: Surroundings) {
    self.repository = repository
    self.surroundings = surroundings
  }

  func add(_ record: AuditRecord) {
    pending.withLock { pending in
      if pending.records.count < Self.maximumPending {
        pending.records.append(record)
      } else {
        pending.dropped += 1
      }
    }
  }

  /// Notes a change that fails; one that succeeds writes `record` itself, in the transaction of the change.
  func noting<Value>(_ record: AuditRecord, _ change: (AuditRecord) async throws -> Value) async throws -> Value {
    do {
      return try await change(record)
    } catch {
      var record = record
      record.outcome = MartletError.wrapping(error).code.rawValue
      add(record)
      throw error
    }
  }

  func flush() async throws {
    let (records, dropped) = pending.withLock { pending in
      defer { pending = ([], 0) }
      return (pending.records, pending.dropped)
    }
    if dropped > 0 { surroundings.logger.error("audit rows dropped", metadata: [LogKey.count: "\(dropped)"]) }
    do {
      try await repository.append(records)
    } catch {
      for record in records { add(record) }
      throw error
    }
  }
}
