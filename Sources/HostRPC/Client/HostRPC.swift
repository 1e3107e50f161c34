package import AsyncHTTPClient
import Connect
import ConnectClient
package import Foundation
import HostAPI
package import Model
import NIOCore
import Protos
import SwiftProtobuf

/// A host in another process, asked over the network (protos/host.proto).
///
/// Every call is signed, and nothing but the head of an answer is looked at before its signature has been checked. A
/// host that cannot be reached, does not answer in time, or is not the one that is meant, is `host_unavailable`.
package struct HostRPC: HostClient {
  package let hostID: HostID
  let connect: ConnectClient
  let httpClient: HTTPClient
  let baseURL: String
  let signer: HostCallSigner
  let limits: HostRPCLimits

  /// - Parameters:
  ///   - address: `HOST:PORT`, an IPv6 host in brackets.
  ///   - httpClient: one for all hosts, made by `makeHTTPClient()`.
  package init(
    hostID: HostID, address: String, secret: HostSecret, httpClient: HTTPClient,
    limits: HostRPCLimits = HostRPCLimits(),
    now: @escaping @Sendable () -> Date = { Date() }
  ) {
    self.hostID = hostID
    self.httpClient = httpClient
    self.limits = limits
    signer = HostCallSigner(secret: secret, now: now)
    baseURL = "http://\(address)"
    connect = ConnectClient(baseURL: baseURL, httpClient: httpClient, codec: .proto, authenticator: signer)
  }

  /// The HTTP client that all clients of hosts share. The caller shuts it down.
  ///
  /// Bodies have no time limit; every host may have as many connections as it has streams. Idle connections are dropped
  /// before the host drops them.
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
  /// Streams of one host that one control plane may have open; more wait for a connection.
  private static let connectionsPerHost = 2_048

  // MARK: Kinds of calls

  /// A short call.
  func unary<Q: Message, R: Message>(
    _ method: HostMethod, _ request: Q, within limit: Duration? = nil, returning: R.Type = R.self
  ) async throws -> R {
    try await hostCall {
      let options = ConnectCallOptions(
        timeout: limit ?? limits.answer, maximumMessageBytes: HostMessageLimits.answerBytes)
      return try await connect.unary(HostMethod.service, method.rawValue, request, options: options)
    }
  }

  /// A call that may take long: it lasts as long as the host gives signs of life. Cancelling it does not cancel the
  /// work.
  func operation<Q: Message>(_ method: HostMethod, _ request: Q) async throws -> Host_OperationEvent.OneOf_Event {
    try await hostCall {
      try await IdleWatch.run(limit: limits.silence) { watch in
        let responses: ConnectResponses<Host_OperationEvent> = try await watch.waiting {
          try await connect.serverStream(
            HostMethod.service, method.rawValue, request,
            options: ConnectCallOptions(maximumMessageBytes: HostMessageLimits.answerBytes))
        }
        var events = responses.makeAsyncIterator()
        var result: Host_OperationEvent.OneOf_Event?
        // To the end of the answer, which the connection needs for its next call.
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

/// Runs a call to a host and gives its errors their meaning.
func hostCall<Value>(
  isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
) async throws -> Value {
  do {
    return try await body()
  } catch {
    throw HostErrors.martletError(error)
  }
}
