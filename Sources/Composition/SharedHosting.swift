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

/// What makes a server one of several on a database: its host can be reached by the others, and theirs by it.
struct SharedHosting {
  let directory: RegisteredHosts
  /// Run them before the control plane's, so that they stop after it. The last one listens, and stops first: when the
  /// host's row is looked at for the last time, nobody can reach the host any more.
  let services: [any Service]
  private let httpClient: HTTPClient

  init(_ host: any HostClient, options: HostOptions, database: any Database, dependencies: Dependencies) {
    let repository = HostRepository(database: database)
    let httpClient = HostRPC.makeHTTPClient()
    let now = dependencies.now
    self.httpClient = httpClient
    directory = RegisteredHosts(own: host, repository: repository, dependencies: dependencies) { record in
      guard let secret = HostSecret(record.secret) else { return nil }
      return HostRPC(hostID: record.id, address: record.address, secret: secret, httpClient: httpClient, now: now)
    }
    // Another one at each start: nothing that was signed before is worth anything.
    let secret = HostSecret.random()
    let (ports, announce) = AsyncStream<Int>.makeStream()
    let server = HostServer(
      host,
      configuration: HostServerConfiguration(
        host: options.listen.host, port: options.listen.port, secret: secret, now: now
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
