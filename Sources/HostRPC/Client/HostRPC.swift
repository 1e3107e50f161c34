package import AsyncHTTPClient
import Connect
import ConnectClient
package import Foundation
import HostAPI
package import Model
import NIOCore
import Protos
import SwiftProtobuf

/// The client of a host in another process (protos/host.proto).
///
/// Every call is signed, and of a response nothing but the head is read before its signature is verified. A host that
/// is unreachable, does not respond in time, or fails to authenticate, is `host_unavailable`.
package struct HostRPC: HostClient {
  package let hostID: HostID
  let connect: ConnectClient
  let httpClient: HTTPClient
  let baseURL: String
  let signer: HostCallSigner
  let limits: HostRPCLimits

  /// - Parameters:
  ///   - address: `HOST:PORT`; an IPv6 address is in brackets.
  ///   - installation: of the caller's database; a host of another installation refuses the calls.
  ///   - httpClient: shared by all hosts, from `makeHTTPClient()`.
  package init(
    hostID: HostID, address: String, secret: HostSecret, installation: InstallationID? = nil, httpClient: HTTPClient,
    limits: HostRPCLimits = HostRPCLimits(),
    now: @escaping @Sendable () -> Date = { Date() }
  ) {
    self.hostID = hostID
    self.httpClient = httpClient
    self.limits = limits
    signer = HostCallSigner(secret: secret, installation: installation, now: now)
    baseURL = "http://\(address)"
    connect = ConnectClient(baseURL: baseURL, httpClient: httpClient, codec: .proto, authenticator: signer)
  }

  /// Creates the HTTP client that the clients of all hosts share. The caller shuts it down.
  ///
  /// Bodies have no time limit, and the number of connections per host is bounded by the number of streams. Idle
  /// connections are closed before the host closes them.
  package static func makeHTTPClient() -> HTTPClient {
    var configuration = HTTPClient.Configuration(
      redirectConfiguration: .disallow, timeout: HTTPClient.Configuration.Timeout(connect: connectLimit),
      connectionPool: HTTPClient.Configuration.ConnectionPool(
        idleTimeout: idleConnectionLimit, concurrentHTTP1ConnectionsPerHostSoftLimit: connectionsPerHost),
      decompression: .disabled)
    configuration.connectionPool.retryConnectionEstablishment = false
    configuration.httpVersion = .http1Only
    return HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
  }

  private static let connectLimit: TimeAmount = .seconds(2)
  private static let idleConnectionLimit: TimeAmount = .seconds(30)
  /// Upper bound on open streams to one host; further calls wait for a connection.
  private static let connectionsPerHost = 2_048

  // MARK: - Kinds of calls

  /// A short call with one request and one response.
  func unary<Q: Message, R: Message>(
    _ method: HostMethod, _ request: Q, within limit: Duration? = nil, returning: R.Type = R.self
  ) async throws -> R {
    try await hostCall {
      let options = ConnectCallOptions(
        timeout: limit ?? limits.unary, maximumMessageBytes: HostMessageLimits.responseBytes)
      return try await connect.unary(HostMethod.service, method.rawValue, request, options: options)
    }
  }

  /// A call that may take long: it lasts as long as the host sends keep-alive events. Cancelling it does not cancel the
  /// operation on the host.
  func operation<Q: Message>(_ method: HostMethod, _ request: Q) async throws -> Host_OperationEvent.OneOf_Event {
    try await hostCall {
      try await IdleWatch.run(limit: limits.streamIdle) { watch in
        let responses: ConnectResponses<Host_OperationEvent> = try await watch.waiting {
          try await connect.serverStream(
            HostMethod.service, method.rawValue, request,
            options: ConnectCallOptions(maximumMessageBytes: HostMessageLimits.responseBytes))
        }
        var events = responses.makeAsyncIterator()
        var result: Host_OperationEvent.OneOf_Event?
        // Reads to the end of the response, so that the connection can be reused.
        while let event = try await watch.waiting(for: { try await events.next() }) {
          switch event.event {
          case .keepalive?, nil: continue
          case let event?: result = event
          }
        }
        guard let result else { throw MalformedHostMessage("result") }
        return result
      }
    }
  }
}

/// Runs a call to a host and maps its errors to `MartletError`.
func hostCall<Value>(
  isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
) async throws -> Value {
  do {
    return try await body()
  } catch {
    throw HostErrors.martletError(error)
  }
}
