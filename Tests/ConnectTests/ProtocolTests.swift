import AsyncHTTPClient
import Connect
import ConnectServer
import NIOCore
import NIOHTTP1
import Testing

@Suite("Connect protocol on the wire", .serialized, .timeLimit(.minutes(1)))
struct ProtocolTests {
  private struct WireResponse {
    let status: UInt
    let headers: HTTPHeaders
    let body: ByteBuffer

    var contentType: String? { headers.first(name: "content-type") }

    /// The error of the only frame, which must be the last one.
    func streamError() throws -> ConnectError? {
      var decoder = EnvelopeDecoder(maximumPayload: 65_536)
      decoder.append(body)
      let frame = try #require(try decoder.next())
      #expect(frame.flags == .endOfStream)
      try decoder.finish()
      return try ConnectError.decodeEndOfStream(frame.payload)
    }
  }

  private static func send(
    _ server: DemoServer, _ path: String, _ headers: HTTPHeaders, _ body: ByteBuffer, method: HTTPMethod = .POST
  ) async throws -> WireResponse {
    var request = HTTPClientRequest(url: server.url + path)
    request.method = method
    request.headers = headers
    request.body = .bytes(body)
    let response = try await HTTPClient.shared.execute(request, timeout: .seconds(10))
    return WireResponse(
      status: response.status.code, headers: response.headers, body: try await response.body.collect(upTo: 1_048_576))
  }

  private static let json: HTTPHeaders = ["content-type": "application/json"]
  private static let stream: HTTPHeaders = ["content-type": "application/connect+json"]

  @Test("response content types are exact")
  func contentTypes() async throws {
    try await DemoServer.run { server in
      let unary = try await Self.send(
        server, "/demo.Demo/Echo", ["content-type": "application/json; charset=utf-8"], ByteBuffer(string: "\"a\""))
      #expect(unary.status == 200)
      #expect(unary.contentType == "application/json")
      #expect(unary.body == ByteBuffer(string: "\"a\""))
      let stream = try await Self.send(
        server, "/demo.Demo/Count", Self.stream, Envelope(payload: ByteBuffer(string: "0")).encoded())
      #expect(stream.status == 200)
      #expect(stream.contentType == "application/connect+json")
      #expect(try stream.streamError() == nil)
    }
  }

  @Test("responses are never compressed, whatever the client accepts")
  func noCompression() async throws {
    try await DemoServer.run { server in
      var headers = Self.json
      headers.add(name: "accept-encoding", value: "zstd, gzip, br")
      let response = try await Self.send(
        server, "/demo.Demo/Echo", headers, ByteBuffer(string: "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""))
      #expect(response.headers["content-encoding"].isEmpty)
    }
  }

  @Test("an unknown method of a known service is 404 and unimplemented")
  func unknownMethod() async throws {
    try await DemoServer.run { server in
      let response = try await Self.send(server, "/demo.Demo/Nothing", Self.json, ByteBuffer(string: "{}"))
      #expect(response.status == 404)
      #expect(response.contentType == "application/json")
      #expect(ConnectError(body: response.body, httpStatus: 404).code == .unimplemented)
    }
  }

  @Test("other HTTP methods are 405", arguments: [HTTPMethod.GET, .PUT, .DELETE, .PATCH])
  func wrongMethod(method: HTTPMethod) async throws {
    try await DemoServer.run { server in
      let response = try await Self.send(server, "/demo.Demo/Echo", Self.json, ByteBuffer(), method: method)
      #expect(response.status == 405)
      #expect(response.headers.first(name: "allow") == "POST")
    }
  }

  @Test(
    "unsupported content types are 415 with the accepted types",
    arguments: [
      ("/demo.Demo/Echo", "text/plain"), ("/demo.Demo/Echo", "application/connect+json"),
      ("/demo.Demo/Echo", "application/grpc"),
      ("/demo.Demo/Count", "application/json"), ("/demo.Demo/Join", "application/connect+xml"),
    ])
  func contentType(path: String, type: String) async throws {
    try await DemoServer.run { server in
      let response = try await Self.send(server, path, ["content-type": type], ByteBuffer(string: "{}"))
      #expect(response.status == 415)
      #expect(response.headers.first(name: "accept-post") != nil)
    }
  }

  @Test("compressed requests are unimplemented, and the message names the supported encodings")
  func compressedRequests() async throws {
    try await DemoServer.run { server in
      var headers = Self.json
      headers.add(name: "content-encoding", value: "gzip")
      let unary = try await Self.send(server, "/demo.Demo/Echo", headers, ByteBuffer(string: "x"))
      #expect(unary.status == 501)
      let error = ConnectError(body: unary.body, httpStatus: 501)
      #expect(error.code == .unimplemented)
      #expect(error.message.hasSuffix("supported encodings are identity"))
      headers = Self.stream
      headers.add(name: "connect-content-encoding", value: "gzip")
      let stream = try await Self.send(server, "/demo.Demo/Count", headers, ByteBuffer())
      #expect(try stream.streamError()?.code == .unimplemented)
      headers.replaceOrAdd(name: "connect-content-encoding", value: "identity")
      let identity = try await Self.send(
        server, "/demo.Demo/Count", headers, Envelope(payload: ByteBuffer(string: "0")).encoded())
      #expect(try identity.streamError() == nil)
    }
  }

  @Test("malformed time-out headers are invalid arguments", arguments: ["-1", "1.5", "", "abc", "12345678901", "٣"])
  func timeouts(value: String) async throws {
    try await DemoServer.run { server in
      var headers = Self.json
      headers.add(name: "connect-timeout-ms", value: value)
      let response = try await Self.send(server, "/demo.Demo/Echo", headers, ByteBuffer(string: "\"a\""))
      #expect(response.status == 400)
    }
  }

  @Test("a protocol version other than 1 is an invalid argument")
  func version() async throws {
    try await DemoServer.run { server in
      var headers = Self.json
      headers.add(name: "connect-protocol-version", value: "2")
      let response = try await Self.send(server, "/demo.Demo/Echo", headers, ByteBuffer(string: "\"a\""))
      #expect(response.status == 400)
    }
  }

  @Test("a unary message over the limit is refused with 429")
  func longMessage() async throws {
    try await DemoServer.run(limits: ConnectLimits(maximumMessageBytes: 1_024)) { server in
      let body = ByteBuffer(string: "\"" + String(repeating: "x", count: 5_000) + "\"")
      let response = try await Self.send(server, "/demo.Demo/Echo", Self.json, body)
      #expect(response.status == 429)
      #expect(ConnectError(body: response.body, httpStatus: 429).code == .resourceExhausted)
    }
  }

  @Test(
    "hostile stream requests end with an error frame",
    arguments: [
      ("length bomb", [0, 0xFF, 0xFF, 0xFF, 0xFF], ConnectCode.resourceExhausted), ("no message", [], .unimplemented),
      ("truncated header", [0, 0, 0], .invalidArgument),
      ("truncated payload", [0, 0, 0, 0, 9, 0x31], .invalidArgument),
      ("bad JSON", [0, 0, 0, 0, 1, 0x7B], .invalidArgument), ("compressed", [1, 0, 0, 0, 1, 0x31], .internalError),
      ("end frame", [2, 0, 0, 0, 2, 0x7B, 0x7D], .invalidArgument),
      ("two messages", [0, 0, 0, 0, 1, 0x31, 0, 0, 0, 0, 1, 0x31], .unimplemented),
    ] as [(String, [UInt8], ConnectCode)])
  func hostileStreams(name: String, bytes: [UInt8], code: ConnectCode) async throws {
    try await DemoServer.run { server in
      let response = try await Self.send(server, "/demo.Demo/Count", Self.stream, ByteBuffer(bytes: bytes))
      #expect(response.status == 200)
      #expect(try response.streamError()?.code == code)
      // Connection and server still work.
      #expect(try await Self.send(server, "/demo.Demo/Echo", Self.json, ByteBuffer(string: "\"a\"")).status == 200)
    }
  }
}
