import Foundation
package import HostAPI
import Logging
import Model
package import Persistence
import ServiceLifecycle

/// Maintains this host's row: inserted once the host listens, renewed every 30 s, deleted at an orderly stop if the
/// host holds no sandboxes or snapshots.
package struct HostHeartbeat: Service {
  package static let interval: Duration = .seconds(30)
  /// The delay before a failed heartbeat is retried. Three missed intervals make a host unresponsive.
  static let retryInterval: Duration = .seconds(2)

  private let host: any HostClient
  private let repository: HostRepository
  private let record: @Sendable () async -> HostRecord?
  private let dependencies: Dependencies

  /// - Parameter record: waits until the host listens and returns its row; nil when the host stops before.
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
        let isRegistered = await beat(record)
        try? await Task.sleep(for: isRegistered ? Self.interval : Self.retryInterval)
      }
    }
    await deregister(record)
  }

  /// Renews the row. Writes it if it is missing or has another secret, as an outdated address or secret is useless.
  /// - Returns: whether the row was written.
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

  /// Deletes the row, unless the host still holds sandboxes or named snapshots: rows refer to this host, so it must
  /// stay registered.
  package func deregister(_ record: HostRecord) async {
    do {
      let holdsSandboxes = try await !host.listSandboxes().isEmpty
      let holdsSnapshots = try await !host.listTemplates(.snapshot).isEmpty
      let holdsQuarantine = try await !host.quarantine().items.isEmpty
      guard !holdsSandboxes, !holdsSnapshots, !holdsQuarantine else { return }
      try await repository.delete(record.id, secret: record.secret)
      dependencies.logger.info("host deregistered", metadata: [LogKey.host: "\(record.id)"])
    } catch {
      dependencies.logger.warning(
        "host not deregistered", metadata: [LogKey.host: "\(record.id)", LogKey.error: "\(error)"])
    }
  }
}
