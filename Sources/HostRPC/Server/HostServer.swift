import Connect
import ConnectServer
package import Foundation
import HTTPTypes
package import HostAPI
import Hummingbird
import HummingbirdCore
package import Logging
package import Model
import NIOCore
import ServiceLifecycle
import WebSocket

/// The address at which a host listens for control planes, and its secret.
package struct HostServerConfiguration: Sendable {
  /// Upper bound on connections, and thereby on open streams.
  package static let maximumConnections = 4_096
  /// The maximum size of a request's header fields, including the file route's query.
  static let maximumHeaderBytes = 32_768
  static let maximumHeaderCount = 64
  /// A connection without a request, or with a request that makes no progress, is closed after this time; longer than
  /// clients keep idle connections.
  static let idleTimeout: Duration = .seconds(75)

  package var host: String
  /// 0 lets the system choose; see `onRunning`.
  package var port: Int
  package var secret: HostSecret
  /// Calls that are made for another installation's database are refused; nil refuses none.
  package var installation: InstallationID?
  package var now: @Sendable () -> Date
  /// Called with the port once the server accepts connections.
  package var onRunning: @Sendable (Int) async -> Void

  package init(
    host: String = "127.0.0.1", port: Int = 0, secret: HostSecret, installation: InstallationID? = nil,
    now: @escaping @Sendable () -> Date = { Date() },
    onRunning: @escaping @Sendable (Int) async -> Void = { _ in }
  ) {
    self.host = host
    self.port = port
    self.secret = secret
    self.installation = installation
    self.now = now
    self.onRunning = onRunning
  }
}

/// Serves a host to control planes of other processes (protos/host.proto). Accesses the host only through `HostClient`.
package struct HostServer: Service {
  private let application: Application<RouterResponder<BasicConnectRequestContext>>
  private let address: String

  package init(_ host: any HostClient, configuration: HostServerConfiguration, logger: Logger) {
    let router = Router(context: BasicConnectRequestContext.self)
    router.add(
      middleware: CallGate(
        verifier: CallVerifier(secret: configuration.secret, now: configuration.now),
        installation: configuration.installation))
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
      // Upgrades are not used here, but this channel bounds request heads, and delivers a response that is sent before
      // the end of the request.
      server: .upgradableHTTP1(configuration: channel) { isTooLarge in Self.malformed(isTooLarge: isTooLarge) },
      configuration: ApplicationConfiguration(
        address: .hostname(configuration.host, port: configuration.port), serverName: "martlet-host",
        availableConnectionsDelegate: MaximumAvailableConnections(
          HostServerConfiguration.maximumConnections, logger: logger)),
      onServerRunning: { channel in await configuration.onRunning(channel.localAddress?.port ?? configuration.port) },
      logger: logger)
  }

  /// - Throws: `host_unavailable` when the server cannot listen on the address.
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
