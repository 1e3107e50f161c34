package import Concurrency
import Foundation
import NIOCore
import NIOHTTP1
import NIOWebSocket

/// A server whose sandboxes exist only in memory. It has enough of the REST API to test the client and the command
/// line.
///
/// Commands of its guests: `cat`, `all-bytes`, `exit N`, `echo WORDS`, `stderr TEXT`, `wait` (for a signal), `stubborn`
/// (ignores all signals but SIGKILL), `break` (closes the connection), `fail` (sends an error frame), `size` (of its
/// terminal), `environment NAME`, `deaf` (stops reading its input).
package final class FakeMartlet: Sendable {
  package struct File: Sendable, Equatable {
    package var bytes: [UInt8]?
    package var mode: Int

    /// - Parameter bytes: nil for a directory.
    package init(bytes: [UInt8]?, mode: Int = 0o644) {
      self.bytes = bytes
      self.mode = mode
    }
  }

  package struct State: Sendable {
    package var sandboxes: [String] = []
    package var destroyed: [String] = []
    package var requests: [String] = []
    /// Paths that the guest takes for others.
    package var resolvedPaths: [String: String] = [:]
    package var files: [String: File] = ["/": File(bytes: nil, mode: 0o755)]
    /// Text frames after the first one.
    package var controls: [String] = []
    package var commands: [[String]] = []
    /// Downloads break off after this many bytes, together with the connection.
    package var truncatesDownloadsAfter: Int?
    package var createDelay = Duration.zero
    /// A command has stopped reading its input.
    package var isDeaf = false
    /// Names of snapshots.
    package var snapshots: [String] = []
    /// JSON bodies of calls that change something, as text.
    package var bodies: [String] = []
    package var paused: Set<String> = []
    /// Largest number of copies that a fork makes.
    package var maximumCopies = Int.max
  }

  package static let apiKey = "mrt_0123456789abcdef0123456789abcdef01234567"

  package let state = Mutex(State())

  package init() {}

  /// Serves while `body` runs. `body` gets the URL of the server.
  package func serving<Result: Sendable>(
    _ body: @escaping @Sendable (String) async throws -> Result
  ) async throws -> Result {
    try await FakeServer.serving(
      requests: { try await self.respond(to: $0) },
      upgrades: { head in
        head.headers.first(name: "X-API-Key") == Self.apiKey
          && self.state.withLock { $0.sandboxes.contains { head.uri.contains($0) } }
      },
      sockets: { _, socket in try await FakeExecSession(server: self, socket: socket).run() }
    ) { try await body($0.url) }
  }

  package func addSandbox(_ id: String = "sb-\(UUID().uuidString.lowercased())") -> String {
    state.withLock { $0.sandboxes.append(id) }
    return id
  }

  private func respond(to exchange: FakeExchange) async throws {
    let path = exchange.path
    state.withLock { $0.requests.append("\(exchange.head.method) \(path)") }
    guard let body = try await exchange.body() else { return }
    guard exchange.head.headers.first(name: "X-API-Key") == Self.apiKey else {
      return try await refuse(exchange, .unauthorized, "unauthorized", "the API key is not valid")
    }
    let parts = path.split(separator: "/").map(String.init)
    switch (exchange.head.method, parts.count) {
    case (_, 2...) where parts[1] == "snapshots":
      try await FakeSnapshotRoutes(server: self).respond(to: exchange, name: parts.dropFirst(2).first, body: body)
    case (.POST, 2):
      recordBody(body)
      try await create(exchange)
    case (.GET, 2): try await list(exchange)
    case (_, 3...):
      guard state.withLock({ $0.sandboxes.contains(parts[2]) }) else {
        return try await refuse(exchange, .notFound, "not_found", "sandbox \(parts[2]) does not exist")
      }
      try await respond(to: exchange, sandbox: parts[2], verb: parts.dropFirst(3).joined(separator: "/"), body: body)
    default: try await refuse(exchange, .notFound, "not_found", "no such route")
    }
  }

  private func create(_ exchange: FakeExchange) async throws {
    try await Task.sleep(for: state.withLock { $0.createDelay })
    let id = addSandbox()
    try await exchange.respond(.created, json(id))
  }

  private func list(_ exchange: FakeExchange) async throws {
    let ids = state.withLock { $0.sandboxes }
    // Two entries per page, so that every client has to request further pages.
    let start = exchange.head.uri.split(separator: "cursor=").dropFirst().first.flatMap { Int($0) } ?? 0
    let page = ids.dropFirst(start).prefix(2)
    let next = start + page.count
    try await exchange.respond(
      .ok, "[\(page.map { json($0) }.joined(separator: ","))]",
      headers: next < ids.count ? ["X-Next-Cursor": "\(next)"] : [:])
  }

  private func respond(to exchange: FakeExchange, sandbox: String, verb: String, body: ByteBuffer) async throws {
    switch (exchange.head.method, verb) {
    case (.GET, ""): try await exchange.respond(.ok, json(sandbox))
    case (.DELETE, ""):
      state.withLock { state in
        state.sandboxes.removeAll { $0 == sandbox }
        state.destroyed.append(sandbox)
      }
      try await exchange.respond(.noContent)
    case (.DELETE, let verb) where verb.hasPrefix("processes/"):
      let signal = exchange.head.uri.split(separator: "=").last ?? ""
      state.withLock { $0.controls.append("\(verb.dropFirst("processes/".count)) \(signal)") }
      try await exchange.respond(.noContent)
    case (.GET, "processes"): try await exchange.respond(.ok, #"[{"pid":7,"tag":"web","cmd":"httpd","args":["-f"]}]"#)
    case (.POST, "pause"), (.POST, "resume"), (.POST, "fork"), (.POST, "ping"), (.POST, "timeout"):
      try await FakeSnapshotRoutes(server: self).respond(to: exchange, sandbox: sandbox, verb: verb, body: body)
    case (.POST, "exec"): try await execute(exchange, sandbox: sandbox, body: body)
    default: try await FakeFileRoutes(server: self).respond(to: exchange, verb: verb, body: body)
    }
  }

  private func execute(_ exchange: FakeExchange, sandbox: String, body: ByteBuffer) async throws {
    struct Request: Decodable {
      var cmd: String
      var args: [String]
      var background: Bool?
    }
    let request = try JSONDecoder().decode(Request.self, from: Data(body.readableBytesView))
    state.withLock { $0.commands.append([request.cmd] + request.args) }
    guard request.background != true else {
      return try await exchange.respond(
        .accepted, #"{"sandbox_id":"\#(sandbox)","cmd":"\#(request.cmd)","pid":41,"tag":"t"}"#)
    }
    try await exchange.respond(
      .ok,
      #"{"sandbox_id":"\#(sandbox)","cmd":"\#(request.cmd)","stdout":"","stderr":"","exit_code":0,"duration_ms":1}"#)
  }

  func refuse(_ exchange: FakeExchange, _ status: HTTPResponseStatus, _ code: String, _ message: String) async throws {
    try await exchange.respond(status, #"{"error":{"code":"\#(code)","message":"\#(message)"}}"#)
  }

  func recordBody(_ body: ByteBuffer) {
    state.withLock { $0.bodies.append(String(buffer: body)) }
  }

  func json(_ id: String, timings: String? = nil) -> String {
    let isPaused = state.withLock { $0.paused.contains(id) }
    return
      #"{"id":"\#(id)","status":"\#(isPaused ? "paused" : "running")","template":"minimal","vcpus":1,"memory_mb":512,"#
      + #""disk_size_mb":5120,"timeout_sec":0,"auto_resume":true,"auto_paused":\#(isPaused),"metadata":{},"#
      + #""isolation":{"vmm":"qemu","accelerator":"tcg"},"created_at":"2026-01-02T03:04:05.678Z","unknown_field":[1]"#
      + (timings.map { #","timings_ms":\#($0)"# } ?? "") + "}"
  }
}
