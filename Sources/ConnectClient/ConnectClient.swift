package import AsyncHTTPClient
import Concurrency
package import Connect
import NIOCore
package import NIOHTTP1
package import SwiftProtobuf

/// Calls the methods of one Connect server.
///
/// Every method throws `ConnectError`, or `CancellationError` when the calling task was cancelled. The code is
/// `unavailable` when the server cannot be reached or the response is truncated.
///
/// Source: https://connectrpc.com/docs/protocol
package struct ConnectClient: Sendable {
  package static let defaultMaximumMessageBytes = 4_194_304
  /// Time limit for the response head of a server stream. Servers send the head with the first message at the latest.
  static let streamHeadLimit: Duration = .seconds(30)
  /// Bytes that are read of an error response.
  static let maximumErrorBytes = 65_536

  private let baseURL: String
  private let httpClient: HTTPClient
  private let codec: ConnectCodec
  private let authenticator: (any CallAuthenticator)?

  /// - Parameters:
  ///   - baseURL: scheme, host and port without a trailing slash, such as `http://10.0.0.2:49983`.
  ///   - httpClient: must not decompress or follow redirects, and must not limit the time of a body.
  ///   - authenticator: signs requests and authenticates responses; nil for servers without authentication.
  package init(
    baseURL: String, httpClient: HTTPClient, codec: ConnectCodec = .proto, authenticator: (any CallAuthenticator)? = nil
  ) {
    self.baseURL = baseURL
    self.httpClient = httpClient
    self.codec = codec
    self.authenticator = authenticator
  }

  /// Calls a method with one request message and one response message.
  package func unary<Q: Message, R: Message>(
    _ service: String, _ method: String, _ message: Q, options: ConnectCallOptions = ConnectCallOptions(),
    returning: R.Type = R.self
  ) async throws -> R {
    var (request, proof) = makeRequest(service, method, contentType: codec.unaryContentType, options)
    request.body = .bytes(try codec.encode(message))
    return try await mappingTransportErrors {
      try await withDeadline(options.timeout, throwing: Self.timeoutPassed) { [request, proof] in
        let response = try await httpClient.execute(request, deadline: .distantFuture)
        try await check(response, proof, contentType: codec.unaryContentType)
        let body = try await response.body.collect(upTo: options.maximumMessageBytes)
        return try decode(body)
      }
    }
  }

  /// Calls a method with one request message and a stream of response messages. Returns when the response head has
  /// arrived.
  package func serverStream<Q: Message, R: Message>(
    _ service: String, _ method: String, _ message: Q, options: ConnectCallOptions = ConnectCallOptions(),
    returning: R.Type = R.self
  ) async throws -> ConnectResponses<R> {
    var (request, proof) = makeRequest(service, method, contentType: codec.streamContentType, options)
    request.body = .bytes(try codec.encodeFrame(message))
    return try await mappingTransportErrors {
      let response = try await httpClient.execute(request, timeout: TimeAmount(Self.streamHeadLimit))
      try await check(response, proof, contentType: codec.streamContentType)
      return ConnectResponses(body: response.body, codec: codec, maximumMessageBytes: options.maximumMessageBytes)
    }
  }

  /// Calls a method with a stream of request messages and one response message. `messages` is pulled as fast as the
  /// server reads. An error of `messages` ends the call and is thrown.
  package func clientStream<Messages: AsyncSequence & Sendable, R: Message>(
    _ service: String, _ method: String, _ messages: Messages, options: ConnectCallOptions = ConnectCallOptions(),
    returning: R.Type = R.self
  ) async throws -> R where Messages.Element: Message {
    var (request, proof) = makeRequest(service, method, contentType: codec.streamContentType, options)
    let source = UploadSource(messages)
    request.body = .stream(source.map { [codec] in try codec.encodeFrame($0) }, length: .unknown)
    do {
      return try await withDeadline(options.timeout, throwing: Self.timeoutPassed) { [request, proof] in
        let response = try await httpClient.execute(request, deadline: .distantFuture)
        try await check(response, proof, contentType: codec.streamContentType)
        return try await ConnectResponses(
          body: response.body, codec: codec, maximumMessageBytes: options.maximumMessageBytes
        ).single()
      }
    } catch {
      throw source.error ?? transportError(error)
    }
  }

  private func makeRequest(
    _ service: String, _ method: String, contentType: String, _ options: ConnectCallOptions
  ) -> (HTTPClientRequest, CallProof?) {
    let path = "/\(service)/\(method)"
    var request = HTTPClientRequest(url: baseURL + path)
    request.method = .POST
    request.headers = options.headers
    let proof = authenticator?.sign(.POST, path)
    if let proof { request.headers.add(contentsOf: proof.headers) }
    request.headers.replaceOrAdd(name: "content-type", value: contentType)
    request.headers.replaceOrAdd(name: "connect-protocol-version", value: "1")
    if let timeout = options.timeout {
      request.headers.replaceOrAdd(name: "connect-timeout-ms", value: "\(Self.milliseconds(timeout))")
    }
    return (request, proof)
  }

  /// Whole milliseconds, at least one and at most ten digits, as the protocol demands.
  private static func milliseconds(_ timeout: Duration) -> Int64 {
    let parts = timeout.components
    let (seconds, isTooLong) = parts.seconds.multipliedReportingOverflow(by: 1_000)
    guard !isTooLong else { return 9_999_999_999 }
    return min(max(seconds + parts.attoseconds / 1_000_000_000_000_000, 1), 9_999_999_999)
  }

  private static var timeoutPassed: ConnectError { ConnectError(.deadlineExceeded, "the call's time-out has passed") }

  private func check(_ response: HTTPClientResponse, _ proof: CallProof?, contentType: String) async throws {
    try proof?.check(response)
    guard response.status == .ok else {
      let body = try await response.body.collect(upTo: Self.maximumErrorBytes)
      throw ConnectError(body: body, httpStatus: Int(response.status.code))
    }
    let received = response.headers.first(name: "content-type") ?? ""
    guard received.prefix(while: { $0 != ";" }).lowercased() == contentType else {
      throw ConnectError(
        .internalError, "the server responded with content type '\(received.prefix(64))', not \(contentType)")
    }
  }

  private func decode<R: Message>(_ body: ByteBuffer) throws -> R {
    do {
      return try codec.decode(from: body)
    } catch {
      throw ConnectError(.internalError, "the server's response is not valid: \(error.message)")
    }
  }
}

/// Headers and limits of one call.
package struct ConnectCallOptions: Sendable {
  package var headers: HTTPHeaders
  /// Sent as `Connect-Timeout-Ms`. The client enforces it too for unary and client-streaming calls; a server stream is
  /// ended by the server.
  package var timeout: Duration?
  /// Longest message accepted from the server, in bytes.
  package var maximumMessageBytes: Int

  package init(
    headers: HTTPHeaders = [:], timeout: Duration? = nil,
    maximumMessageBytes: Int = ConnectClient.defaultMaximumMessageBytes
  ) {
    self.headers = headers
    self.timeout = timeout
    self.maximumMessageBytes = maximumMessageBytes
  }
}

/// Runs one call and maps the errors of the HTTP client to `ConnectError`.
func mappingTransportErrors<Value>(
  isolation: isolated (any Actor)? = #isolation, _ call: () async throws -> Value
) async throws -> Value {
  do {
    return try await call()
  } catch {
    throw transportError(error)
  }
}

/// Maps an error of the HTTP client. `ConnectError` and `CancellationError` pass unchanged; time-outs become
/// `deadline_exceeded`, a response that is too long `resource_exhausted`, everything else `unavailable`.
func transportError(_ error: any Error) -> any Error {
  switch error {
  case is ConnectError, is CancellationError:
    return error
  case is NIOTooManyBytesError:
    return ConnectError(.resourceExhausted, "the server's response is longer than the limit")
  case HTTPClientError.cancelled as HTTPClientError:
    return CancellationError()
  case HTTPClientError.deadlineExceeded as HTTPClientError, HTTPClientError.readTimeout as HTTPClientError:
    return ConnectError(.deadlineExceeded, "the server did not respond in time")
  default:
    return ConnectError(.unavailable, "the server cannot be reached (\(error))")
  }
}
