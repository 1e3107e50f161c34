import Concurrency
import Foundation
package import HostAPI
import Logging
package import Model
package import Persistence

/// The host in this process, and those that other processes have written into the database they share (HO-1).
///
/// Clients of the others are made when they are needed and kept for as long as their host's address and secret stay the
/// same (HO-8). Rows are read on every call, so that a host that has just been started again is asked where it is now.
/// While the database does not answer, what it last said holds.
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
  ///   - own: never taken from the database.
  ///   - connect: makes a client of another host, and connects to nobody yet; nil for a row that nobody can use.
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

  /// A host that has given no sign of life for as long as makes its sandboxes missing gets no new ones (MO-1).
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
      note(error)
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
      note(error)
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

  private func note(_ error: any Error) {
    dependencies.logger.warning("hosts not read", metadata: [LogKey.error: "\(error)"])
  }
}
