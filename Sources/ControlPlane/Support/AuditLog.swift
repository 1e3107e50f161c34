import Concurrency
import Foundation
import Logging
import Model
import Persistence

/// Collects audit rows of operations on guests and writes them in batches, so that an exec or a file write does not
/// wait for the disk.
///
/// Lifecycle transitions do not use it: their audit row is part of the transaction. A power failure can lose the rows
/// since the last flush, `Housekeeping.interval` at most.
final class AuditLog: Sendable {
  private let repository: AuditRepository
  private let dependencies: Dependencies
  private let pending = Mutex(AuditBuffer())

  init(repository: AuditRepository, dependencies: Dependencies) {
    self.repository = repository
    self.dependencies = dependencies
  }

  /// Adds a row. Drops it, and later logs the number of dropped rows, when too many are waiting.
  func add(_ record: AuditRecord) {
    pending.withLock { $0.add(record) }
  }

  /// Runs `change` and adds `record` with the error's code if it fails. A successful change writes `record` itself, in
  /// its transaction.
  func recordingFailure<Value>(
    _ record: AuditRecord, _ change: (AuditRecord) async throws -> Value
  ) async throws -> Value {
    do {
      return try await change(record)
    } catch {
      var record = record
      record.outcome = MartletError.wrapping(error).code.rawValue
      add(record)
      throw error
    }
  }

  /// Writes the collected rows in batches; rows that cannot be written now stay for the next flush.
  func flush() async throws {
    defer { reportDropped() }
    // Bounded by the maximum queue length; rows that are added meanwhile may wait for the next flush.
    for _ in 0..<AuditBuffer.maximumPending / AuditBuffer.batchSize {
      let batch = pending.withLock { $0.begin() }
      guard !batch.isEmpty else { return }
      do {
        try await repository.append(batch)
        pending.withLock { $0.settle(batch) }
      } catch let error where Self.isAboutRows(error) {
        try await writeOneByOne(batch)
      } catch {
        pending.withLock { $0.settle(batch, remaining: batch) }
        throw error
      }
    }
  }

  /// Writes the rows of a rejected batch one by one, and drops those that the database rejects, so that they do not
  /// block the others.
  private func writeOneByOne(_ batch: [AuditRecord]) async throws {
    for (index, row) in batch.enumerated() {
      do {
        try await repository.append([row])
      } catch let error where Self.isAboutRows(error) {
        dependencies.logger.error("audit row not written", metadata: [LogKey.error: "\(error)"])
        pending.withLock { $0.drop(1) }
      } catch {
        pending.withLock { $0.settle(batch, remaining: Array(batch[index...])) }
        throw error
      }
    }
    pending.withLock { $0.settle(batch) }
  }

  /// Whether the database rejected the rows themselves, in contrast to being unavailable or busy.
  private static func isAboutRows(_ error: any Error) -> Bool {
    switch error as? PersistenceError {
    case .constraint, .duplicate: true
    default: false
    }
  }

  private func reportDropped() {
    let dropped = pending.withLock { $0.takeDropped() }
    if dropped > 0 { dependencies.logger.error("audit rows dropped", metadata: [LogKey.count: "\(dropped)"]) }
  }
}
