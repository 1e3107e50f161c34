package import ControlPlane
import Hummingbird
import HummingbirdCore
package import Logging
import NIOCore
import ServiceLifecycle
import WebSocket

/// What the API needs to know about its surroundings.
package struct APIConfiguration: Sendable {
  package var host: String
  /// 0 lets the system choose; see `onRunning`.
  package var port: Int
  package var version: String
  /// Decides about the `Origin` header of WebSocket requests. None is allowed by default: API keys are not for browsers.
  package var allowsOrigin: @Sendable (String) -> Bool
  /// Called with the port once the server accepts connections.
  package var onRunning: @Sendable (Int) async -> Void

  package init(
    host: String = "127.0.0.1", port: Int = 8080, version: String, allowsOrigin: @escaping @Sendable (String) -> Bool = { _ in false },
    onRunning: @escaping @Sendable (Int) async -> Void = { _ in }
  ) {
    self.host = host
    self.port = port
    self.version = version
    self.allowsOrigin = allowsOrigin
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
        address: .hostname(configuration.host, port: configuration.port), serverName: "martlet", backlog: 1_024),
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
    router.add(middleware: ErrorMiddleware(routes: table))
    let version = configuration.version
    let open = RouteRegistrar(group: router.group(), table: table, prefix: "")
    open.get("/health") { _, _ in JSONResponse.make(["status": "ok", "version": .string(version)]) }
    MetricsRoute(metrics: controlPlane.metrics).register(open)
    let guarded = RouteRegistrar(
      group: router.group("/v1").add(middleware: AuthenticationMiddleware(authenticator: controlPlane.authenticator)),
      table: table, prefix: "/v1")
    SandboxRoutes(service: controlPlane.sandboxes).register(guarded)
    LifecycleRoutes(service: controlPlane.sandboxes).register(guarded)
    SnapshotRoutes(service: controlPlane.snapshots).register(guarded)
    ProcessRoutes(service: controlPlane.sandboxes).register(guarded)
    FileRoutes(service: controlPlane.sandboxes).register(guarded)
    StreamRoutes(service: controlPlane.sandboxes, allowsOrigin: configuration.allowsOrigin).register(guarded)
    return router
  }
}
