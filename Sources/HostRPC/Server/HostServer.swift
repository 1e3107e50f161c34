import Connect
import ConnectServer
package import Foundation
import HTTPTypes
package import HostAPI
import Hummingbird
import HummingbirdCore
package import Logging
import Model
import NIOCore
import ServiceLifecycle
import WebSocket

/// Where a host listens for control planes.
package struct HostServerConfiguration: Sendable {
  /// All connections together; as many streams can be open.
  package static let maximumConnections = 4_096
  /// A request's header fields together, a file's path in the query among them.
  static let maximumHeaderBytes = 32_768
  static let maximumHeaderCount = 64
  /// A connection without a request, or with one that does not get on, is closed after this; longer than clients keep
  /// connections.
  static let idleTimeout: Duration = .seconds(75)

  package var host: String
  /// 0 lets the system choose; see `onRunning`.
  package var port: Int
  package var secret: HostSecret
  package var now: @Sendable () -> Date
  /// Called with the port once the server accepts connections.
  package var onRunning: @Sendable (Int) async -> Void

  package init(
    host: String = "127.0.0.1", port: Int = 0, secret: HostSecret, now: @escaping @Sendable () -> Date = { Date() },
    onRunning: @escaping @Sendable (Int) async -> Void = { _ in }
  ) {
    self.host = host
    self.port = port
    self.secret = secret
    self.now = now
    self.onRunning = onRunning
  }
}

/// Serves a host to control planes of other processes (protos/host.proto). Knows it by `HostClient` only.
package struct HostServer: Service {
  private let application: Application<RouterResponder<BasicConnectRequestContext>>
  private let address: String

  package init(_ host: any HostClient, configuration: HostServerConfiguration, logger: Logger) {
    let router = Router(context: BasicConnectRequestContext.self)
    router.add(middleware: CallGate(verifier: CallVerifier(secret: configuration.secret, now: configuration.now)))
    let routes = HostRoutes(host: host, sessions: ProcessSessions(), logger: logger)
    routes.register(
      on: ConnectRouter(router, limits: ConnectLimits(maximumMessageBytes: HostMessageLimits.requestBytes)))
    routes.registerFiles(on: router)
    var channel = UpgradableHTTP1Channel.Configuration()
    channel.maximumHeaderBytes = HostServerConfiguration.maximumHeaderBytes
    channel.maximumHeaderCount = HostServerConfiguration.maximumHeaderCount
    channel.idleTimeout = HostServerConfiguration.idleTimeout
    address = "\(configuration.host):\(configuration.port)"
    application = Application(
      responder: router.buildResponder(),
      // The room's upgrades are of no use here; its bounds, and that an answer before the end of a request gets
      // through, are.
      server: .upgradableHTTP1(configuration: channel) { isTooLarge in Self.malformed(isTooLarge: isTooLarge) },
      configuration: ApplicationConfiguration(
        address: .hostname(configuration.host, port: configuration.port), serverName: "martlet-host",
        availableConnectionsDelegate: MaximumAvailableConnections(
          HostServerConfiguration.maximumConnections, logger: logger)),
      onServerRunning: { channel in await configuration.onRunning(channel.localAddress?.port ?? configuration.port) },
      logger: logger)
  }

  /// - Throws: `host_unavailable` when the address cannot be listened on.
  package func run() async throws {
    do {
      try await application.run()
    } catch let error where error is IOError || error is SocketAddressError {
      throw MartletError(
        .hostUnavailable, "the host cannot listen on \(address) (\(error)); choose another address with --host-listen",
        cause: error)
    }
  }

  private static func malformed(isTooLarge: Bool) -> (HTTPResponse, ByteBuffer) {
    let error = ConnectError(
      .invalidArgument, isTooLarge ? "the request's head is too large" : "the request is not HTTP/1.1")
    return (HTTPResponse(status: isTooLarge ? .requestHeaderFieldsTooLarge : .badRequest), error.encoded())
  }
}
