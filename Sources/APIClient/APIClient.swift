import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// A typed client of Martlet's REST API. Every failure is an `APIError` or a `CancellationError`.
package struct APIClient: Sendable {
  /// Time-outs and sizes; documented in docs/specification.md.
  package enum Bounds {
    package static let connectTimeout = Duration.seconds(10)
    /// A call that only reads or writes the server's database.
    package static let callTimeout = Duration.seconds(60)
    /// A call that waits for a microVM to boot or to stop.
    package static let bootTimeout = Duration.seconds(300)
    /// A call that saves or restores a microVM's memory.
    package static let memoryTimeout = Duration.seconds(660)
    /// A file transfer fails if the network makes no progress for this long.
    package static let stallTimeout = Duration.seconds(120)
    /// Maximum size of a JSON response.
    package static let responseBytes = 64 << 20
    /// Size of the chunks in which files and standard input are sent.
    package static let chunkBytes = 64 << 10
    /// Maximum number of pages of a list.
    package static let pages = 10_000
  }

  package let endpoint: Endpoint
  /// Header with the credentials; nil for calls that need none.
  let authentication: (name: String, value: String)?
  let http: HTTPClient

  /// Runs `body` with a client that authenticates by API key; closes the client's connections afterwards.
  package static func withClient<Result: Sendable>(
    _ credentials: ClientCredentials, _ body: (APIClient) async throws -> Result
  ) async throws -> Result {
    try await withClient(credentials.endpoint, ("X-API-Key", credentials.apiKey), body)
  }

  /// The same with a user's session.
  package static func withClient<Result: Sendable>(
    _ session: StoredSession, _ body: (APIClient) async throws -> Result
  ) async throws -> Result {
    try await withClient(try Endpoint(session.url), ("Authorization", "Bearer \(session.token)"), body)
  }

  /// The same without credentials, for logging in.
  package static func withClient<Result: Sendable>(
    _ endpoint: Endpoint, _ body: (APIClient) async throws -> Result
  ) async throws -> Result {
    try await withClient(endpoint, nil, body)
  }

  private static func withClient<Result: Sendable>(
    _ endpoint: Endpoint, _ authentication: (name: String, value: String)?, _ body: (APIClient) async throws -> Result
  ) async throws -> Result {
    var configuration = HTTPClient.Configuration(redirectConfiguration: .disallow, decompression: .disabled)
    configuration.timeout.connect = TimeAmount(Bounds.connectTimeout)
    configuration.httpVersion = .http1Only
    // Report an unreachable server at once, instead of retrying for ten seconds.
    configuration.connectionPool.retryConnectionEstablishment = false
    let http = HTTPClient(eventLoopGroup: .singletonMultiThreadedEventLoopGroup, configuration: configuration)
    let client = APIClient(endpoint: endpoint, authentication: authentication, http: http)
    do {
      let result = try await body(client)
      try? await http.shutdown()
      return result
    } catch {
      try? await http.shutdown()
      throw error
    }
  }

  // MARK: Calls

  /// Makes a call and decodes its JSON response.
  func call<Response: Decodable>(
    _ method: HTTPMethod, _ path: String, query: [(String, String)] = [], body: Data? = nil,
    timeout: Duration = Bounds.callTimeout,
    as type: Response.Type = Response.self
  ) async throws -> Response {
    let (_, bytes) = try await exchange(method, path, query: query, body: body, timeout: timeout)
    return try decode(bytes)
  }

  /// Makes a call and ignores the response body.
  func perform(
    _ method: HTTPMethod, _ path: String, query: [(String, String)] = [], body: Data? = nil,
    timeout: Duration = Bounds.callTimeout
  )
    async throws
  {
    _ = try await exchange(method, path, query: query, body: body, timeout: timeout)
  }

  /// Reads all pages of a list, in order.
  func list<Element: Decodable>(
    _ path: String, query: [(String, String)] = [], of type: Element.Type
  ) async throws -> [Element] {
    var elements: [Element] = []
    var cursor: String?
    for _ in 0..<Bounds.pages {
      let page = cursor.map { query + [("cursor", $0)] } ?? query
      let (headers, bytes) = try await exchange(.GET, path, query: page, body: nil, timeout: Bounds.callTimeout)
      elements += try decode(bytes, as: [Element].self)
      guard let next = headers.first(name: "X-Next-Cursor"), !next.isEmpty, next != cursor else { return elements }
      cursor = next
    }
    throw APIError(.badResponse, "the server's list has more than \(Bounds.pages) pages")
  }

  private func exchange(
    _ method: HTTPMethod, _ path: String, query: [(String, String)], body: Data?, timeout: Duration
  ) async throws -> (HTTPHeaders, ByteBuffer) {
    var request = request(method, path, query: query)
    if let body {
      request.headers.add(name: "Content-Type", value: "application/json")
      request.body = .bytes(ByteBuffer(bytes: body))
    }
    do {
      let response = try await http.execute(request, timeout: TimeAmount(timeout))
      let bytes = try await StallWatch.run(limit: timeout) { watch in
        try await collect(response, watch: watch)
      }
      guard (200..<300).contains(response.status.code) else {
        throw APIError(status: Int(response.status.code), body: bytes)
      }
      return (response.headers, bytes)
    } catch {
      throw APIError.wrapping(error, at: endpoint)
    }
  }

  func request(_ method: HTTPMethod, _ path: String, query: [(String, String)] = []) -> HTTPClientRequest {
    let suffix =
      query.isEmpty ? "" : "?" + query.map { "\(percentEncoded($0))=\(percentEncoded($1))" }.joined(separator: "&")
    var request = HTTPClientRequest(url: "\(endpoint)\(path)\(suffix)")
    request.method = method
    request.headers = headers
    return request
  }

  var headers: HTTPHeaders {
    var headers: HTTPHeaders = ["Accept": "application/json", "User-Agent": "martlet-cli"]
    if let authentication { headers.add(name: authentication.name, value: authentication.value) }
    return headers
  }

  /// The whole body of a response, up to `Bounds.responseBytes`.
  func collect(_ response: HTTPClientResponse, watch: StallWatch) async throws -> ByteBuffer {
    var whole = ByteBuffer()
    var iterator = response.body.makeAsyncIterator()
    while var part = try await watch.waiting({ try await iterator.next() }) {
      guard whole.readableBytes + part.readableBytes <= Bounds.responseBytes else {
        throw APIError(.badResponse, "the server's response is larger than \(Bounds.responseBytes >> 20) MiB")
      }
      whole.writeBuffer(&part)
    }
    return whole
  }

  private func decode<Response: Decodable>(
    _ bytes: ByteBuffer, as type: Response.Type = Response.self
  ) throws -> Response {
    do {
      return try JSONDecoder().decode(Response.self, from: Data(bytes.readableBytesView))
    } catch {
      throw APIError(
        .badResponse,
        "the server's response does not match the API; client and server may have different versions")
    }
  }

  func encode(_ body: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return try encoder.encode(body)
  }
}
