import Foundation
package import HostAPI
import Logging
import Model
package import Persistence
import ServiceLifecycle

/// Keeps the row of the host in this process: written when the host is reachable, renewed for as long as it is, and
/// taken away at an orderly stop if nothing is left on it that anybody could ask for.
package struct HostHeartbeat: Service {
  package static let interval: Duration = .seconds(30)
  /// A beat that failed is tried again after this; three that are lost make a host silent.
  static let retryInterval: Duration = .seconds(2)

  private let host: any HostClient
  private let repository: HostRepository
  private let record: @Sendable () async -> HostRecord?
  private let dependencies: Dependencies

  /// - Parameter record: waits until the host listens and says where; nil when it is to stop before.
  package init(
    of host: any HostClient, repository: HostRepository, dependencies: Dependencies,
    record: @escaping @Sendable () async -> HostRecord?
  ) {
    self.host = host
    self.repository = repository
    self.dependencies = dependencies
    self.record = record
  }

  package func run() async throws {
    guard let record = await cancelWhenGracefulShutdown({ await self.record() }) else { return }
    await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        let hasBeaten = await beat(record)
        try? await Task.sleep(for: hasBeaten ? Self.interval : Self.retryInterval)
      }
    }
    await leave(record)
  }

  /// Renews the row, or writes it when it is not there or another's: an address or secret that is no longer true helps
  /// nobody.
  /// - Returns: whether the database has it.
  package func beat(_ record: HostRecord) async -> Bool {
    do {
      if try await repository.renew(record.id, secret: record.secret, at: dependencies.now()) { return true }
      var record = record
      record.lastHeartbeat = StoredTime.rounded(dependencies.now())
      try await repository.register(record)
      dependencies.logger.info(
        "host registered", metadata: [LogKey.host: "\(record.id)", "host.address": "\(record.address)"])
      return true
    } catch {
      dependencies.logger.warning(
        "host not registered", metadata: [LogKey.host: "\(record.id)", LogKey.error: "\(error)"])
      return false
    }
  }

  /// Sandboxes, and snapshots with names, are asked for by rows that name this host; as long as there are any it must
  /// stay known.
  package func leave(_ record: HostRecord) async {
    do {
      let holdsSandboxes = try await !host.listSandboxes().isEmpty
      let holdsSnapshots = try await !host.listTemplates(.snapshot).isEmpty
      guard !holdsSandboxes, !holdsSnapshots else { return }
      try await repository.delete(record.id, secret: record.secret)
      dependencies.logger.info("host forgotten", metadata: [LogKey.host: "\(record.id)"])
    } catch {
      dependencies.logger.warning(
        "host not forgotten", metadata: [LogKey.host: "\(record.id)", LogKey.error: "\(error)"])
    }
  }
}
