package import ControlPlane
import Hummingbird
import HummingbirdCore
package import Logging
import NIOCore
import ServiceLifecycle
import WebSocket

/// Configuration of the API server.
package struct APIConfiguration: Sendable {
  package var host: String
  /// TCP port; 0 lets the kernel choose a free one, which `onRunning` receives.
  package var port: Int
  package var version: String
  /// Whether pages of another origin may use session cookies and WebSockets; false for all origins by default.
  package var allowsOrigin: @Sendable (String) -> Bool
  /// Names that clients may put into `Host` besides loopback names and the listen address.
  package var publicNames: Set<ServerNames.Pattern>
  /// Addresses of reverse proxies whose `X-Forwarded-*` headers are trusted.
  package var trustedProxies: Set<String>
  /// Maximum number of open connections; further clients wait until one closes.
  package var maximumConnections: Int
  /// Swagger UI's files for `/docs`; if nil, the page explains how to install them.
  package var documentation: DocumentationFiles?
  /// How often an open stream resets its sandbox's idle timer and its caller is authenticated again.
  package var streamTouchInterval: Duration = .seconds(10)
  /// Called with the bound port once the server accepts connections.
  package var onRunning: @Sendable (Int) async -> Void

  package init(
    host: String = "127.0.0.1", port: Int = 8080, version: String,
    allowsOrigin: @escaping @Sendable (String) -> Bool = { _ in false },
    publicNames: Set<ServerNames.Pattern> = [], trustedProxies: Set<String> = [], maximumConnections: Int = 8_192,
    documentation: DocumentationFiles? = nil,
    onRunning: @escaping @Sendable (Int) async -> Void = { _ in }
  ) {
    self.host = host
    self.port = port
    self.version = version
    self.allowsOrigin = allowsOrigin
    self.publicNames = publicNames
    self.trustedProxies = trustedProxies
    self.maximumConnections = maximumConnections
    self.documentation = documentation
    self.onRunning = onRunning
  }
}

/// The REST API as a service.
package struct APIServer: Service {
  private let application: Application<RouterResponder<APIContext>>
  /// Every route of the API.
  package let routes: RouteTable

  package init(_ controlPlane: ControlPlane, configuration: APIConfiguration, logger: Logger) {
    routes = RouteTable()
    let router = Self.router(controlPlane, configuration, routes)
    application = Application(
      responder: router.buildResponder(),
      server: .upgradableHTTP1 { ErrorResponse.parseError(isTooLarge: $0) },
      configuration: ApplicationConfiguration(
        address: .hostname(configuration.host, port: configuration.port), serverName: "martlet", backlog: 1_024,
        availableConnectionsDelegate: MaximumAvailableConnections(configuration.maximumConnections, logger: logger)),
      onServerRunning: { channel in await configuration.onRunning(channel.localAddress?.port ?? configuration.port) },
      logger: logger)
  }

  package func run() async throws {
    try await application.run()
  }

  private static func router(
    _ controlPlane: ControlPlane, _ configuration: APIConfiguration, _ table: RouteTable
  ) -> Router<APIContext> {
    let router = Router(context: APIContext.self)
    let names = ServerNames(listenHost: configuration.host, publicNames: configuration.publicNames)
    router.add(middleware: ResponseMiddleware(routes: table))
    router.add(middleware: HostMiddleware(names: names))
    if !configuration.trustedProxies.isEmpty {
      router.add(middleware: ClientMiddleware(trustedProxies: configuration.trustedProxies))
    }
    let version = configuration.version
    let origins = OriginPolicy(names: names, allowsOrigin: configuration.allowsOrigin)
    let publicRoutes = RouteRegistrar(group: router.group(), table: table, prefix: "", access: .open)
    publicRoutes.get("/health") { _, _ in JSONResponse.make(["status": "ok", "version": .string(version)]) }
    OpenAPIRoute().register(publicRoutes)
    DocumentationRoutes(files: configuration.documentation).register(publicRoutes)
    ConsoleRoute().register(publicRoutes)
    let operators = router.group().add(
      middleware: OperatorMiddleware(authenticator: controlPlane.authenticator, origins: origins))
    MetricsRoute(metrics: controlPlane.metrics).register(
      RouteRegistrar(group: operators, table: table, prefix: "", access: .operators))
    let publicV1Routes = RouteRegistrar(group: router.group("/v1"), table: table, prefix: "/v1", access: .open)
    let guarded = RouteRegistrar(
      group: router.group("/v1").add(
        middleware: AuthenticationMiddleware(authenticator: controlPlane.authenticator, origins: origins)),
      table: table, prefix: "/v1")
    AuthRoutes(accounts: controlPlane.accounts, origins: origins).register(open: publicV1Routes, guarded.with(.user))
    KeyRoutes(keys: controlPlane.apiKeys).register(guarded.with(.user))
    TeamRoutes(teams: controlPlane.teams).register(guarded.with(.user))
    AuditRoutes(audit: controlPlane.auditLogs).register(guarded.with(.user))
    AdminRoutes(admin: controlPlane.admin, snapshots: controlPlane.snapshots).register(guarded.with(.admin))
    QuarantineRoutes(quarantine: controlPlane.quarantine).register(guarded.with(.admin))
    SandboxRoutes(service: controlPlane.sandboxes).register(guarded)
    LifecycleRoutes(service: controlPlane.sandboxes).register(guarded)
    SnapshotRoutes(service: controlPlane.snapshots).register(guarded)
    ProcessRoutes(service: controlPlane.sandboxes).register(guarded)
    FileRoutes(service: controlPlane.sandboxes).register(guarded)
    StreamRoutes(
      service: controlPlane.sandboxes, authenticator: controlPlane.authenticator, origins: origins,
      touchInterval: configuration.streamTouchInterval
    ).register(guarded)
    return router
  }
}
