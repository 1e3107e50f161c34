import API
import AsyncHTTPClient
package import CommandLine
import ControlPlane
import Disks
import Foundation
import Glibc
import GuestClient
import HostAPI
package import HostAgent
import Images
import LinuxSystem
import Logging
import Model
import NIOCore
package import Persistence
import QEMU
import SandboxNetwork
import ServiceLifecycle
package import Snapshots
import SystemPackage
import Telemetry
import UnixSignals

/// The whole of Martlet in one process: control plane, host agent and API, on SQLite unless told otherwise. `martlet
/// up`.
///
/// Sandboxes are processes of their own: they run on when this ends, and the next start on the same data directory
/// adopts them.
package struct AllInOneServer: Sendable {
  package static let version = "0.1.0"

  /// How long open streams and transfers may go on once the server was told to stop.
  private static let shutdownLimit: Duration = .seconds(30)

  /// The other half of the descriptors is for sandboxes.
  private static var maximumConnections: Int { max(64, min(8_192, OpenFiles.limit / 2)) }

  private let options: UpOptions
  private let observer: StepObserver
  private let storeObserver: SnapshotObserver
  private let watching: @Sendable (any Database) -> any Database
  private let report: StepReport
  private let logger: Logger

  /// - Parameters:
  ///   - observer: watches the host agent's steps; tests use it to make the process die at one of them.
  ///   - storeObserver: watches the snapshot store's in the same way.
  ///   - watching: puts something before the control plane's database that watches what it writes.
  package init(
    _ options: UpOptions, observer: StepObserver = StepObserver(), storeObserver: SnapshotObserver = SnapshotObserver(),
    watching: @escaping @Sendable (any Database) -> any Database = { $0 }
  ) {
    self.options = options
    self.observer = observer
    self.storeObserver = storeObserver
    self.watching = watching
    report = StepReport()
    var logger = Logger(label: "martlet") { LineLogHandler.standardError(label: $0) }
    logger.logLevel = Logger.Level(rawValue: options.logLevel) ?? .info
    self.logger = logger
  }

  /// Serves until SIGINT or SIGTERM.
  package func run() async throws {
    guard getuid() == 0 else {
      throw MartletError(.forbidden, "martlet up makes network namespaces and control groups, so it must run as root")
    }
    try await checkHost()
    OpenFiles.raiseLimit()
    let data = FilePath(options.dataDirectory)
    // VMMs run as other users and pass through; what is secret in here is 0600.
    try Directories.create(data, mode: 0o711)
    let access = try accessRules(data)
    let claim = try InstanceClaim.claim(dataDirectory: data)
    let identity = try HostIdentity.load(from: data)
    try await report.step("images") { progress in
      try await PlatformImages(directory: FilePath(options.imageDirectory)).ensure(progress)
    }
    let httpClient = GuestClient.makeHTTPClient()
    do {
      try await serve(claim: claim, identity: identity, access: access, httpClient: httpClient)
    } catch {
      try? await httpClient.shutdown()
      throw error
    }
    try await httpClient.shutdown()
  }

  /// - Throws: for a missing or bad secret, before anything is made or started.
  private func accessRules(_ data: FilePath) throws -> IdentityConfiguration {
    let access = options.access
    var rates = RateLimits.Rates()
    if let limit = access.callsPerSecond {
      rates.calls = limit == 0 ? nil : Rate(burst: Double(limit) * 4, perSecond: Double(limit))
    }
    return IdentityConfiguration(
      secret: try TokenSecretFile(directory: data).load(given: access.tokenSecret, isShared: options.database.isShared),
      rates: rates,
      allowsSignUp: access.allowsSignUp)
  }

  /// Says at once, and with the remedy, what would otherwise fail later in some tool.
  private func checkHost() async throws {
    let checks = await HostProbes.checks(
      searchPath: ProcessInfo.processInfo.environment["PATH"], dataDirectory: options.dataDirectory,
      imageDirectory: options.imageDirectory, triesKVM: false)
    let missing = checks.filter { $0.status == .missing }
    guard !missing.isEmpty else { return }
    for check in missing {
      report.line("  ✗ \(check.name): \(check.finding)\(check.remedy.map { "; to do: \($0)" } ?? "")")
    }
    throw MartletError(
      .hostUnavailable,
      "sandboxes cannot run on this machine: \(missing.map(\.name).joined(separator: ", ")) missing; see martlet doctor"
    )
  }

  /// However the serving ends, the host is left as it was found, unless sandboxes run on and need it.
  private func serve(
    claim: InstanceClaim, identity: HostIdentity, access: IdentityConfiguration, httpClient: HTTPClient
  ) async throws {
    let agent = try await report.step("host agent") { _ in
      let agent = try await HostFactory(options: options, claim: claim, identity: identity, logger: logger)
        .make(httpClient: httpClient, observer: observer, storeObserver: storeObserver)
      try await agent.recover()
      return agent
    }
    do {
      try await serve(agent, access)
    } catch {
      await releaseHost(agent, claim)
      throw error
    }
    await releaseHost(agent, claim)
  }

  private func releaseHost(_ agent: HostAgent, _ claim: InstanceClaim) async {
    // A pause that has begun ends in a complete snapshot, whoever began it.
    await agent.drain()
    do {
      if try await agent.releaseHost() { return try claim.release() }
      let left = try await agent.listSandboxes().count { $0.status == .running }
      if left > 0 { report.line("\(left) sandboxes run on; martlet up on the same data directory takes them up again") }
    } catch {
      logger.warning("host not left as it was found", metadata: ["error": "\(error)"])
    }
  }

  private func serve(_ agent: HostAgent, _ access: IdentityConfiguration) async throws {
    let data = FilePath(options.dataDirectory)
    let dependencies = Dependencies(logger: logger)
    let database = try await report.step("database") { _ in
      let database = watching(
        try await DatabaseFactory(choice: options.database, dataDirectory: data, logger: logger).open())
      let url = options.listen.clientURL
      let file = CredentialsFile(directory: data)
      let made = try await Bootstrap(database: database, hasher: access.hasher, dependencies: dependencies).run(
        url: url, keep: file.keep)
      if made == nil { try file.update(url: url) }
      return database
    }
    let hosting =
      options.database.isShared
      ? SharedHosting(agent, options: options.host, database: database, dependencies: dependencies) : nil
    let hosts: any HostDirectory = hosting?.directory ?? FixedHosts([agent])
    let controlPlane = ControlPlane(
      database: database, hosts: hosts, identity: access,
      retention: options.access.retentionDays.map { Retention(days: $0) } ?? .standard, dependencies: dependencies)
    let welcome = Welcome(options: options, report: report)
    let api = APIServer(
      controlPlane,
      configuration: APIConfiguration(
        host: options.listen.host, port: options.listen.port, version: Self.version,
        publicNames: try Self.publicNames(options.access.publicHosts),
        trustedProxies: options.access.trustedProxies, maximumConnections: Self.maximumConnections,
        documentation: InstalledFile.documentation(),
        onRunning: { port in
          // The server is up; showing so must not hold up its start.
          Task { await welcome.show(port: port) }
        }),
      logger: logger)
    let services: [any Service] =
      [HostMaintenance(agent: agent)] + (hosting?.services ?? []) + controlPlane.services + [api]
    var configuration = ServiceGroupConfiguration(
      services: services.map { .init(service: $0) }, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
    configuration.maximumGracefulShutdownDuration = Self.shutdownLimit
    do {
      try await run(ServiceGroup(configuration: configuration))
    } catch {
      try? await hosting?.close()
      throw error
    }
    try await hosting?.close()
    try await database.close()
  }

  private static func publicNames(_ texts: [String]) throws(MartletError) -> Set<ServerNames.Pattern> {
    var names: Set<ServerNames.Pattern> = []
    for text in texts {
      guard let name = ServerNames.Pattern(text) else {
        throw MartletError(
          .invalidRequest,
          "\(text) in MARTLET_PUBLIC_HOSTS is no host name, address or *.DOMAIN; example: box.example.com,*.box.example.com"
        )
      }
      names.insert(name)
    }
    return names
  }

  private func run(_ group: ServiceGroup) async throws {
    do {
      try await group.run()
    } catch let error as IOError where error.errnoCode == EADDRINUSE {
      throw MartletError(
        .hostUnavailable,
        "\(options.listen.clientURL) is in use by another program; choose another address with --listen", cause: error)
    }
  }
}

extension ListenAddress {
  /// Where clients on this machine reach the server.
  var clientURL: String {
    switch host {
    case "0.0.0.0", "::": "http://127.0.0.1:\(port)"
    default: "http://\(self)"
    }
  }
}
