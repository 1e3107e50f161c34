import Concurrency
import Foundation
package import HostAPI
import Logging
package import Model
package import Persistence

/// The host in this process, and the hosts of other processes that are registered in the shared database.
///
/// Clients of other hosts are created on demand, and kept as long as the host's address and secret stay the same. Rows
/// are read on every call, so that a restarted host is reached at its new address. While the database is unavailable,
/// the last known rows are used.
package final class RegisteredHosts: HostDirectory {
  package typealias Connector = @Sendable (HostRecord) -> (any HostClient)?

  private struct Pooled {
    let address: String
    let secret: [UInt8]
    let client: any HostClient
  }

  private let own: any HostClient
  private let repository: HostRepository
  private let dependencies: Dependencies
  private let connect: Connector
  private let pool = Mutex([HostID: Pooled]())
  private let lastRows = Mutex([HostRecord]())

  /// - Parameters:
  ///   - own: the host in this process, which is not read from the database.
  ///   - connect: creates the client of another host without connecting yet; nil for an unusable row.
  package init(
    own: any HostClient, repository: HostRepository, dependencies: Dependencies, connect: @escaping Connector
  ) {
    self.own = own
    self.repository = repository
    self.dependencies = dependencies
    self.connect = connect
  }

  package func hosts() async -> [any HostClient] {
    [own] + (await others()).compactMap { client(of: $0) }
  }

  /// Excludes hosts without a heartbeat for `Monitor.silenceLimit`, after which sandboxes are `missing`.
  package func placeableHosts() async -> [any HostClient] {
    let oldest = dependencies.now().addingTimeInterval(-Monitor.silenceLimit)
    return [own] + (await others()).filter { $0.lastHeartbeat >= oldest }.compactMap { client(of: $0) }
  }

  package func host(_ id: HostID) async -> (any HostClient)? {
    if id == own.hostID { return own }
    do {
      guard let record = try await repository.host(id) else {
        pool.withLock { $0[id] = nil }
        return nil
      }
      return client(of: record)
    } catch {
      logFailure(error)
      return pool.withLock { $0[id]?.client }
    }
  }

  private func others() async -> [HostRecord] {
    do {
      let rows = try await repository.all().filter { $0.id != own.hostID }
      lastRows.withLock { $0 = rows }
      let known = Set(rows.map(\.id))
      pool.withLock { pool in pool = pool.filter { known.contains($0.key) } }
      return rows
    } catch {
      logFailure(error)
      return lastRows.withLock { $0 }
    }
  }

  private func client(of record: HostRecord) -> (any HostClient)? {
    pool.withLock { pool in
      if let pooled = pool[record.id], pooled.address == record.address, pooled.secret == record.secret {
        return pooled.client
      }
      guard let client = connect(record) else { return nil }
      pool[record.id] = Pooled(address: record.address, secret: record.secret, client: client)
      return client
    }
  }

  private func logFailure(_ error: any Error) {
    dependencies.logger.warning("host rows not read", metadata: [LogKey.error: "\(error)"])
  }
}
