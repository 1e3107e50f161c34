import Concurrency
import Foundation
import NIOCore
import NIOHTTP1

/// The routes of a `FakeMartlet` for pause, resume, fork and snapshots.
struct FakeSnapshotRoutes {
  private struct Body: Decodable {
    var name: String?
    var count: Int?
  }

  let server: FakeMartlet

  func respond(to exchange: FakeExchange, sandbox: String, verb: String, body: ByteBuffer) async throws {
    server.recordBody(body)
    let isPaused = server.state.withLock { $0.paused.contains(sandbox) }
    switch verb {
    case "pause" where isPaused, "ping" where isPaused:
      try await server.refuse(
        exchange, .conflict, "invalid_state",
        "sandbox \(sandbox) is paused; this operation needs a sandbox that is running")
    case "pause":
      server.state.withLock { _ = $0.paused.insert(sandbox) }
      try await exchange.respond(.ok, server.json(sandbox, timings: #"{"freeze":1.5,"save_memory":10}"#))
    case "resume" where !isPaused:
      try await server.refuse(
        exchange, .conflict, "invalid_state",
        "sandbox \(sandbox) is running; this operation needs a sandbox that is paused")
    case "resume":
      server.state.withLock { _ = $0.paused.remove(sandbox) }
      try await exchange.respond(.ok, server.json(sandbox, timings: #"{"restore":30}"#))
    case "fork": try await fork(exchange, body)
    case "ping": try await exchange.respond(.noContent)
    default: try await exchange.respond(.ok, server.json(sandbox))
    }
  }

  private func fork(_ exchange: FakeExchange, _ body: ByteBuffer) async throws {
    let count = min(try decoded(body).count ?? 1, server.state.withLock { $0.maximumCopies })
    let copies = (0..<count).map { _ in server.addSandbox() }
    try await exchange.respond(.created, "[\(copies.map { server.json($0) }.joined(separator: ","))]")
  }

  /// `/v1/snapshots` and `/v1/snapshots/NAME`.
  func respond(to exchange: FakeExchange, name: String?, body: ByteBuffer) async throws {
    switch (exchange.head.method, name) {
    case (.GET, nil):
      let isSnapshots = exchange.head.uri.contains("type=snapshot")
      let names = server.state.withLock { $0.snapshots }
      let base = #"{"name":"minimal","type":"base","size_bytes":4194304,"platform":true}"#
      try await exchange.respond(.ok, "[\((isSnapshots ? names.map(Self.json) : [base]).joined(separator: ","))]")
    case (.POST, nil): try await create(exchange, body)
    case (.DELETE, "minimal"):
      try await server.refuse(exchange, .forbidden, "forbidden", "template minimal belongs to the platform")
    case (.DELETE, let name?):
      let isKnown = server.state.withLock { state in
        defer { state.snapshots.removeAll { $0 == name } }
        return state.snapshots.contains(name)
      }
      guard isKnown else {
        return try await server.refuse(exchange, .notFound, "not_found", "snapshot \(name) does not exist")
      }
      try await exchange.respond(.noContent)
    default: try await server.refuse(exchange, .notFound, "not_found", "no such route")
    }
  }

  private func create(_ exchange: FakeExchange, _ body: ByteBuffer) async throws {
    server.recordBody(body)
    let name = try decoded(body).name ?? "snap-00000001"
    let isTaken = server.state.withLock { $0.snapshots.contains(name) } && !exchange.head.uri.contains("overwrite=true")
    guard !isTaken else {
      return try await server.refuse(exchange, .conflict, "already_exists", "a snapshot named \(name) exists")
    }
    server.state.withLock { state in
      state.snapshots.removeAll { $0 == name }
      state.snapshots.append(name)
    }
    try await exchange.respond(.created, Self.json(name))
  }

  private func decoded(_ body: ByteBuffer) throws -> Body {
    try JSONDecoder().decode(Body.self, from: body.readableBytes == 0 ? Data("{}".utf8) : Data(body.readableBytesView))
  }

  private static func json(_ name: String) -> String {
    #"{"name":"\#(name)","type":"snapshot","vcpus":1,"memory_mb":512,"disk_size_mb":5120,"#
      + #""size_bytes":4194304,"platform":false}"#
  }
}
