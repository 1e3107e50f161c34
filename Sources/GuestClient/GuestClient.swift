package import AsyncHTTPClient
import Connect
import ConnectClient
import Foundation
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

/// Time limits and bounds of a guest client; part of docs/specification.md.
package struct GuestLimits: Sendable {
  /// For a unary call as a whole.
  package var call: Duration = .seconds(30)
  /// For the first event of a process stream.
  package var firstEvent: Duration = .seconds(30)
  /// A stream in which the guest sends nothing for this long has failed. Time in which our own consumer or source is
  /// slow does not count.
  package var streamIdle: Duration = .seconds(60)
  /// Interval of the keep-alive events that the guest sends while a process is silent, in seconds.
  package var keepAliveSeconds = 20
  /// For the signal that kills the process of a detached session.
  package var kill: Duration = .seconds(5)
  /// Longest event of a process stream, in bytes. The agent sends 32 KiB at most.
  package var eventBytes = 262_144
  /// Events that wait for a slow consumer before back-pressure stops the guest.
  package var waitingEvents = 8
  /// Chunks of a download that wait for a slow consumer.
  package var waitingChunks = 4
  /// Longest listing of a directory, in bytes.
  package var listingBytes = 33_554_432
  /// Input is sent in pieces of this size, in bytes.
  package var inputPieceBytes = 262_144
  /// Longest response of the plain HTTP routes, in bytes.
  package var plainResponseBytes = 65_536

  package init() {}
}

extension GuestClient {
  static func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
}

extension ByteBuffer {
  /// The readable bytes as `Data`, the type of protobuf's `bytes` fields.
  var foundationData: Data { withUnsafeReadableBytes { Data($0) } }
}
