import Concurrency
import Foundation
import Logging
import Model
import Persistence

/// Collects what guests were asked to do and writes it in batches, so that an exec or a file write does not wait for
/// the disk.
///
/// Lifecycle transitions do not come this way: their audit row is part of the transaction. A power failure can lose
/// what was collected since the last flush, `Housekeeping.interval` at most.
final class AuditLog: Sendable {
  private let repository: AuditRepository
  private let dependencies: Dependencies
  private let pending = Mutex(AuditBuffer())

  init(repository: AuditRepository, dependencies: Dependencies) {
    self.repository = repository
    self.dependencies = dependencies
  }

  /// Dropped, and counted in the log, when too many wait already.
  func add(_ record: AuditRecord) {
    pending.withLock { $0.add(record) }
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

  /// Writes what was collected, batch by batch; what cannot be written now stays for the next time.
  func flush() async throws {
    defer { reportDropped() }
    // As many as could wait when it began; those that come meanwhile can wait for the next time.
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

  /// One of them is at fault: it alone is given up, and stands in nobody's way.
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

  /// Whether the database looked at the rows and refused them, rather than being away or busy.
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
