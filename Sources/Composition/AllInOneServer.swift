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

/// The server of `martlet up`: control plane, host agent and API in one process, on SQLite or PostgreSQL.
///
/// Sandboxes are separate processes: they continue when the server ends, and the next server on the same data directory
/// adopts them.
package struct AllInOneServer: Sendable {
  package static let version = "0.1.0"

  /// Time for which open streams and transfers may continue after a stop signal.
  private static let shutdownLimit: Duration = .seconds(30)

  /// Half of the process's descriptors; the other half is for sandboxes.
  private static var maximumConnections: Int { max(64, min(8_192, OpenFiles.limit / 2)) }

  private let options: UpOptions
  private let observer: StepObserver
  private let storeObserver: SnapshotObserver
  private let wrapDatabase: @Sendable (any Database) -> any Database
  private let report: StepReport
  private let logger: Logger

  /// - Parameters:
  ///   - observer: observes the host agent's steps; tests use it to end the process at a step.
  ///   - storeObserver: observes the snapshot store's steps.
  ///   - wrapDatabase: wraps the control plane's database; tests use it to observe writes.
  package init(
    _ options: UpOptions, observer: StepObserver = StepObserver(), storeObserver: SnapshotObserver = SnapshotObserver(),
    wrapDatabase: @escaping @Sendable (any Database) -> any Database = { $0 }
  ) {
    self.options = options
    self.observer = observer
    self.storeObserver = storeObserver
    self.wrapDatabase = wrapDatabase
    report = StepReport()
    var logger = Logger(label: "martlet") { LineLogHandler.standardError(label: $0) }
    logger.logLevel = Logger.Level(rawValue: options.logLevel) ?? .info
    self.logger = logger
  }

  /// Serves until SIGINT or SIGTERM.
  package func run() async throws {
    // What is made without a mode is the server's own, and what is in its memory is in no other place.
    umask(0o077)
    try ProcessMemoryProtection.enable()
    guard getuid() == 0 else {
      throw MartletError(.forbidden, "martlet up creates network namespaces and control groups; run it as root")
    }
    try await checkHost()
    OpenFiles.raiseLimit()
    let data = FilePath(options.dataDirectory)
    // No other user passes through: VMMs see the few files of theirs in a file system of their own.
    try Directories.createPrivate(data)
    // Before anything in it is looked at: one server at a time.
    let lock = try DataDirectoryLock.take(data)
    // The secret of a shared database must be given; the other one is made up, and not for a wrong database.
    let given = options.database.isShared ? try accessRules(data) : nil
    let found = try await report.step("database") { _ in
      try await InstallationCheck(
        choice: options.database, dataDirectory: data, adopts: options.adoptsHost, logger: logger
      ).run()
    }
    do {
      try await serve(found, try given ?? accessRules(data))
    } catch {
      try? await found.database.close()
      throw error
    }
    try await found.database.close()
    withExtendedLifetime(lock) {}
  }

  private func serve(_ found: InstallationCheck.Result, _ access: IdentityConfiguration) async throws {
    let claim = try InstanceClaim.claim(dataDirectory: FilePath(options.dataDirectory))
    try await report.step("images") { progress in
      try await PlatformImages(directory: FilePath(options.imageDirectory)).ensure(progress)
    }
    let httpClient = GuestClient.makeHTTPClient()
    do {
      try await serve(claim: claim, found: found, access: access, httpClient: httpClient)
    } catch {
      try? await httpClient.shutdown()
      throw error
    }
    try await httpClient.shutdown()
  }

  /// Reads the token secret and the rate limits.
  /// - Throws: for a missing or invalid secret, before anything is created or started.
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

  /// Runs the checks of `martlet doctor` and reports missing requirements with their remedies.
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

  /// Recovers the host agent and serves. Afterwards removes the host's network set-up, unless running sandboxes need
  /// it.
  private func serve(
    claim: InstanceClaim, found: InstallationCheck.Result, access: IdentityConfiguration, httpClient: HTTPClient
  ) async throws {
    let agent = try await report.step("host agent") { _ in
      let agent = try await HostFactory(
        options: options, claim: claim, identity: found.identity, journal: found.journal, logger: logger
      ).make(httpClient: httpClient, observer: observer, storeObserver: storeObserver)
      try await agent.recover()
      return agent
    }
    do {
      try await serve(agent, found, access)
    } catch {
      await releaseHost(agent, claim)
      throw error
    }
    await releaseHost(agent, claim)
  }

  private func releaseHost(_ agent: HostAgent, _ claim: InstanceClaim) async {
    // Pauses in progress complete their snapshots.
    await agent.drain()
    do {
      if try await agent.releaseHost() { return try claim.release() }
      let left = try await agent.listSandboxes().count { $0.status == .running }
      if left > 0 {
        report.line("\(left) sandboxes continue to run; martlet up on the same data directory adopts them")
      }
    } catch {
      logger.warning("host not cleaned up", metadata: ["error": "\(error)"])
    }
  }

  private func serve(
    _ agent: HostAgent, _ found: InstallationCheck.Result, _ access: IdentityConfiguration
  ) async throws {
    let dependencies = Dependencies(logger: logger)
    let database = wrapDatabase(found.database)
    let credentials = try await bootstrap(database, found.installation, access, dependencies)
    let hosting =
      options.database.isShared
      ? SharedHosting(
        agent, installation: found.installation, options: options.host, database: database, dependencies: dependencies)
      : nil
    let hosts: any HostDirectory = hosting?.directory ?? FixedHosts([agent])
    let controlPlane = ControlPlane(
      database: database, hosts: hosts, identity: access,
      retention: options.access.retentionDays.map { Retention(days: $0) } ?? .standard,
      installation: found.installation,
      quarantine: options.access.quarantineDays.map { QuarantinePeriod(days: $0) } ?? .standard,
      dependencies: dependencies)
    let welcome = Welcome(options: options, storedCredentials: credentials, report: report)
    let api = APIServer(
      controlPlane,
      configuration: APIConfiguration(
        host: options.listen.host, port: options.listen.port, version: Self.version,
        publicNames: try Self.publicNames(options.access.publicHosts),
        trustedProxies: options.access.trustedProxies, maximumConnections: Self.maximumConnections,
        documentation: InstalledFile.documentation(),
        onRunning: { port in
          // A separate task, so that the welcome text does not delay the start of the services.
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
  }

  /// The first run on this database, if it is one. Credentials that are there stay.
  private func bootstrap(
    _ database: any Database, _ installation: InstallationID, _ access: IdentityConfiguration,
    _ dependencies: Dependencies
  ) async throws -> StoredCredentials {
    let url = options.listen.clientURL
    let file = StoredCredentials(directory: FilePath(options.dataDirectory), installation: installation)
    let made = try await Bootstrap(database: database, hasher: access.hasher, dependencies: dependencies).run(
      url: url, installation: installation, unfinished: file.ofThisInstallation, keep: file.keep)
    if made == nil { try file.update(url: url) }
    if made != nil, let path = file.existing, path.lastComponent?.string != "credentials.json" {
      report.line("  credentials.json belongs to another database and stays; those of this one are in \(path)")
    }
    return file
  }

  private static func publicNames(_ texts: [String]) throws(MartletError) -> Set<ServerNames.Pattern> {
    var names: Set<ServerNames.Pattern> = []
    for text in texts {
      guard let name = ServerNames.Pattern(text) else {
        throw MartletError(
          .invalidRequest,
          "\(text) in MARTLET_PUBLIC_HOSTS is not a host name, address or *.DOMAIN; give for example "
            + "box.example.com,*.box.example.com"
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
  /// URL at which clients on this machine reach the server.
  var clientURL: String {
    switch host {
    case "0.0.0.0", "::": "http://127.0.0.1:\(port)"
    default: "http://\(self)"
    }
  }
}
