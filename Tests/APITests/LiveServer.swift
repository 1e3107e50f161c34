import API
import AsyncHTTPClient
import ControlPlane
import Foundation
import Logging
import Model
import NIOCore
import NIOHTTP1
import Persistence
import ServiceLifecycle
import TestSupport

/// An API server on a loopback port with a simulated host, and a valid API key.
struct LiveServer: Sendable {
  let port: Int
  let key: String
  /// Credentials of the administrator that the first start creates.
  let admin: Credentials?
  let host: SimulatedHost
  let control: ControlPlane
  let routes: RouteTable
  let clients = RawClients()

  var base: String { "http://127.0.0.1:\(port)" }

  struct TestResponse {
    var status: Int
    var headers: HTTPHeaders
    var body: ByteBuffer

    var text: String { String(buffer: body) }
    var json: [String: Any] {
      ((try? JSONSerialization.jsonObject(with: Data(body.readableBytesView))) as? [String: Any]) ?? [:]
    }
    var list: [[String: Any]] {
      ((try? JSONSerialization.jsonObject(with: Data(body.readableBytesView))) as? [[String: Any]]) ?? []
    }
    var errorCode: String? { (json["error"] as? [String: Any])?["code"] as? String }
    var errorMessage: String? { (json["error"] as? [String: Any])?["message"] as? String }
  }

  func send(
    _ method: HTTPMethod, _ path: String, json: String? = nil, body: HTTPClientRequest.Body? = nil,
    headers: [String: String] = [:],
    key: String? = nil, isAuthenticated: Bool = true
  ) async throws -> TestResponse {
    var request = HTTPClientRequest(url: base + path)
    request.method = method
    if isAuthenticated { request.headers.add(name: "X-API-Key", value: key ?? self.key) }
    for (name, value) in headers { request.headers.add(name: name, value: value) }
    if let json {
      request.headers.add(name: "Content-Type", value: "application/json")
      request.body = .bytes(ByteBuffer(string: json))
    }
    if let body { request.body = body }
    let response = try await HTTPClient.shared.execute(request, timeout: .seconds(20))
    return TestResponse(
      status: Int(response.status.code), headers: response.headers,
      body: try await response.body.collect(upTo: 64 << 20))
  }

  func create(_ json: String = "{}") async throws -> String {
    let response = try await send(.POST, "/v1/sandboxes", json: json)
    guard response.status == 201, let id = response.json["id"] as? String else { throw SimulatedFault() }
    return id
  }

  /// A multipart body with the given parts.
  func upload(_ path: String, _ parts: [(String, ByteBuffer)]) async throws -> TestResponse {
    var body = ByteBuffer()
    for (name, content) in parts {
      body.writeString("--BOUNDARY\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n")
      body.writeImmutableBuffer(content)
      body.writeString("\r\n")
    }
    body.writeString("--BOUNDARY--\r\n")
    return try await send(
      .POST, path, body: .bytes(body), headers: ["Content-Type": "multipart/form-data; boundary=BOUNDARY"])
  }
}

func withServer(
  _ dialect: SQLDialect = .sqlite, closesClients: Bool = true, identity: IdentityConfiguration = .forTests,
  publicNames: Set<ServerNames.Pattern> = [], trustedProxies: Set<String> = [],
  documentation: DocumentationFiles? = nil, streamTouchInterval: Duration = .seconds(10),
  _ body: @Sendable @escaping (LiveServer) async throws -> Void
) async throws {
  try await withTestDatabase(dialect) { database, _ in
    try await withServer(
      on: database, closesClients: closesClients, identity: identity, publicNames: publicNames,
      trustedProxies: trustedProxies, documentation: documentation, streamTouchInterval: streamTouchInterval, body)
  }
}

func withServer(
  on database: any Database, closesClients: Bool = true, identity: IdentityConfiguration = .forTests,
  publicNames: Set<ServerNames.Pattern> = [], trustedProxies: Set<String> = [],
  documentation: DocumentationFiles? = nil, streamTouchInterval: Duration = .seconds(10),
  _ body: @Sendable @escaping (LiveServer) async throws -> Void
) async throws {
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  let dependencies = Dependencies(logger: logger)
  let credentials = try await Bootstrap(database: database, hasher: identity.hasher, dependencies: dependencies).run(
    url: "")
  let host = SimulatedHost()
  let control = ControlPlane(
    database: database, hosts: FixedHosts([host]), identity: identity, dependencies: dependencies)
  let (ports, announce) = AsyncStream<Int>.makeStream()
  var configuration = APIConfiguration(
    port: 0, version: "test", publicNames: publicNames, trustedProxies: trustedProxies, documentation: documentation,
    onRunning: { announce.yield($0) })
  configuration.streamTouchInterval = streamTouchInterval
  let api = APIServer(control, configuration: configuration, logger: logger)
  let group = ServiceGroup(configuration: .init(services: [api], logger: logger))
  try await withThrowingTaskGroup(of: Void.self) { tasks in
    tasks.addTask { try await group.run() }
    guard let port = await ports.first(where: { _ in true }) else { throw SimulatedFault() }
    let server = LiveServer(
      port: port, key: credentials?.apiKey ?? "", admin: credentials, host: host, control: control, routes: api.routes)
    do {
      try await body(server)
    } catch {
      await group.triggerGracefulShutdown()
      throw error
    }
    if closesClients { await server.clients.closeAll() }
    await group.triggerGracefulShutdown()
    try await tasks.waitForAll()
  }
}

extension IdentityConfiguration {
  /// Fast password hashing and no rate limits.
  static var forTests: IdentityConfiguration {
    IdentityConfiguration(hasher: PasswordHasher(parameters: .init(passes: 1, memoryKiB: 64, lanes: 1)), rates: .none)
  }
}

/// Waits until `condition` holds, for at most ten seconds on an idle machine.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
  try await Patience.waiting(for: .seconds(10), every: .milliseconds(10), until: condition)
}
