import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// A typed client of Martlet's REST API and of nothing else. Every failure is an `APIError` or a `CancellationError`.
package struct APIClient: Sendable {
  /// Waits and sizes; part of docs/specification.md.
  package enum Bounds {
    package static let connectTimeout = Duration.seconds(10)
    /// A call that only reads or writes the server's books.
    package static let callTimeout = Duration.seconds(60)
    /// A call that waits for a machine: a create that has to boot, a destroy that has to wait for a host.
    package static let machineTimeout = Duration.seconds(300)
    /// A call that saves or restores the memory of a machine.
    package static let memoryTimeout = Duration.seconds(660)
    /// A transfer in which the network side makes no progress for this long has failed.
    package static let stallTimeout = Duration.seconds(120)
    /// A JSON answer.
    package static let answerBytes = 64 << 20
    /// Piece in which bytes are sent, by file transfer and by standard input.
    package static let chunkBytes = 64 << 10
    package static let pages = 10_000
  }

  package let endpoint: Endpoint
  /// Header that says who calls; nil for calls that nobody has to make.
  let authentication: (name: String, value: String)?
  let http: HTTPClient

  /// Runs `body` with a client whose connections end with it.
  package static func withClient<Result: Sendable>(
    _ credentials: Credentials, _ body: (APIClient) async throws -> Result
  ) async throws -> Result {
    try await withClient(credentials.endpoint, ("X-API-Key", credentials.apiKey), body)
  }

  /// As a person.
  package static func withClient<Result: Sendable>(
    _ session: StoredSession, _ body: (APIClient) async throws -> Result
  ) async throws -> Result {
    try await withClient(try Endpoint(session.url), ("Authorization", "Bearer \(session.token)"), body)
  }

  /// As nobody, for logging in.
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
    // A server that is not there is said at once, not after ten seconds of trying.
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

  /// One call with a JSON answer.
  func call<Answer: Decodable>(
    _ method: HTTPMethod, _ path: String, query: [(String, String)] = [], body: Data? = nil,
    timeout: Duration = Bounds.callTimeout,
    as type: Answer.Type = Answer.self
  ) async throws -> Answer {
    let (_, bytes) = try await exchange(method, path, query: query, body: body, timeout: timeout)
    return try decode(bytes)
  }

  /// One call whose answer, if any, does not matter.
  func perform(
    _ method: HTTPMethod, _ path: String, query: [(String, String)] = [], body: Data? = nil,
    timeout: Duration = Bounds.callTimeout
  )
    async throws
  {
    _ = try await exchange(method, path, query: query, body: body, timeout: timeout)
  }

  /// All pages of a list, in order.
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
    throw APIError(.badAnswer, "the server's list has no end")
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

  /// The whole body of an answer, up to `Bounds.answerBytes`.
  func collect(_ response: HTTPClientResponse, watch: StallWatch) async throws -> ByteBuffer {
    var whole = ByteBuffer()
    var iterator = response.body.makeAsyncIterator()
    while var part = try await watch.waiting({ try await iterator.next() }) {
      guard whole.readableBytes + part.readableBytes <= Bounds.answerBytes else {
        throw APIError(.badAnswer, "the server's answer is larger than \(Bounds.answerBytes >> 20) MiB")
      }
      whole.writeBuffer(&part)
    }
    return whole
  }

  private func decode<Answer: Decodable>(_ bytes: ByteBuffer, as type: Answer.Type = Answer.self) throws -> Answer {
    do {
      return try JSONDecoder().decode(Answer.self, from: Data(bytes.readableBytesView))
    } catch {
      throw APIError(
        .badAnswer, "the server's answer is not what the API promises; client and server may be of different versions")
    }
  }

  func encode(_ body: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return try encoder.encode(body)
  }
}
