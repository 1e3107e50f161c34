package import AsyncHTTPClient
import Connect
import ConnectClient
package import Logging
import Model
import NIOCore
import NIOHTTP1

/// The host's client of one guest agent.
///
/// Every method throws `MartletError`: `not_found`, `invalid_request` and others for errors of the guest, `agent_error`
/// if it does not respond, `deadline_exceeded` if it does not respond in time, `insufficient_storage` if its disk is
/// full. `user` nil means the template's default user. Cancelling the calling task ends the call with `canceled`.
package struct GuestClient: Sendable {
  let baseURL: String
  let address: String
  let port: Int
  let accessToken: String?
  let httpClient: HTTPClient
  let connect: ConnectClient
  let limits: GuestLimits
  let logger: Logger

  /// - Parameters:
  ///   - address: the IP address at which the host reaches the guest.
  ///   - accessToken: the sandbox's secret; sent with every call.
  ///   - httpClient: made by `makeHTTPClient()`; one for all sandboxes.
  package init(
    address: String, port: Int, accessToken: String?, httpClient: HTTPClient, limits: GuestLimits = GuestLimits(),
    logger: Logger
  ) {
    self.address = address
    self.port = port
    self.accessToken = accessToken
    self.httpClient = httpClient
    self.limits = limits
    self.logger = logger
    baseURL = "http://\(address):\(port)"
    connect = ConnectClient(baseURL: baseURL, httpClient: httpClient, codec: .proto)
  }

  /// Makes the HTTP client that all guest clients of a host share. The caller shuts it down.
  ///
  /// Bodies have no time limit, because streams last as long as their process. Responses are not decompressed, and a
  /// guest may have one connection per stream. Idle connections are closed early, because a sandbox's address is later
  /// given to another sandbox.
  package static func makeHTTPClient() -> HTTPClient {
    var configuration = HTTPClient.Configuration(
      redirectConfiguration: .disallow, timeout: HTTPClient.Configuration.Timeout(connect: connectLimit),
      connectionPool: HTTPClient.Configuration.ConnectionPool(
        idleTimeout: idleConnectionLimit, concurrentHTTP1ConnectionsPerHostSoftLimit: connectionsPerGuest),
      decompression: .disabled)
    configuration.connectionPool.retryConnectionEstablishment = false
    configuration.httpVersion = .http1Only
    return HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
  }

  static let connectLimit: TimeAmount = .seconds(2)
  static let idleConnectionLimit: TimeAmount = .seconds(15)
  /// Streams that one guest may have open at a time; further ones wait for a connection.
  static let connectionsPerGuest = 1_024

  /// Headers of every request.
  func headers(user: String? = nil) -> HTTPHeaders {
    var headers = HTTPHeaders()
    if let accessToken { headers.add(name: "x-access-token", value: accessToken) }
    if let user { headers.add(name: "authorization", value: "Basic \(Self.base64("\(user):"))") }
    return headers
  }

  func options(user: String? = nil) -> ConnectCallOptions {
    ConnectCallOptions(headers: headers(user: user), timeout: limits.call)
  }
}
