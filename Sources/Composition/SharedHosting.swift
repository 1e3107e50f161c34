import AsyncHTTPClient
import CommandLine
import ControlPlane
import Foundation
import HostAPI
import HostRPC
import Logging
import Model
import Persistence
import ServiceLifecycle

/// Connects a server with others on a shared database: it registers and serves its host agent, and reaches the host
/// agents of the others.
struct SharedHosting {
  let directory: RegisteredHosts
  /// To be started before the control plane's services, so that they stop after them. The last one is the host server
  /// and stops first, so that no call reaches the host when the heartbeat deletes its row.
  let services: [any Service]
  private let httpClient: HTTPClient

  init(
    _ host: any HostClient, installation: InstallationID, options: HostOptions, database: any Database,
    dependencies: Dependencies
  ) {
    let repository = HostRepository(database: database)
    let httpClient = HostRPC.makeHTTPClient()
    let now = dependencies.now
    self.httpClient = httpClient
    directory = RegisteredHosts(own: host, repository: repository, dependencies: dependencies) { record in
      guard let secret = HostSecret(record.secret) else { return nil }
      return HostRPC(
        hostID: record.id, address: record.address, secret: secret, installation: installation,
        httpClient: httpClient, now: now)
    }
    // A new secret at each start, so that earlier signatures become invalid.
    let secret = HostSecret.random()
    let (ports, announce) = AsyncStream<Int>.makeStream()
    let server = HostServer(
      host,
      configuration: HostServerConfiguration(
        host: options.listen.host, port: options.listen.port, secret: secret, installation: installation,
        now: now
      ) { port in
        announce.yield(port)
      }, logger: dependencies.logger)
    let heartbeat = HostHeartbeat(of: host, repository: repository, dependencies: dependencies) {
      for await port in ports {
        return HostRecord(
          id: host.hostID, address: options.advertised(port: port).description, secret: secret.bytes,
          registeredAt: now())
      }
      return nil
    }
    services = [heartbeat, server]
  }

  func close() async throws {
    try await httpClient.shutdown()
  }
}
