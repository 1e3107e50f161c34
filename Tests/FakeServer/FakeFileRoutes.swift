import Concurrency
import Foundation
import NIOCore
import NIOHTTP1

/// The file routes on a dictionary.
struct FakeFileRoutes {
  let server: FakeMartlet

  private struct Request: Decodable {
    var path: String
  }

  func respond(to exchange: FakeExchange, verb: String, body: ByteBuffer) async throws {
    if verb == "files/stream/write" { return try await write(exchange, body) }
    let path = try JSONDecoder().decode(Request.self, from: Data(body.readableBytesView)).path
    let requested = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    let clean = server.state.withLock { $0.resolvedPaths[requested] ?? requested }
    let file = server.state.withLock { $0.files[clean] }
    switch verb {
    case "files/mkdir":
      server.state.withLock { $0.files[clean] = FakeMartlet.File(bytes: nil, mode: 0o755) }
      try await exchange.respond(.ok, entry(clean, FakeMartlet.File(bytes: nil, mode: 0o755)))
    case "files/stat":
      guard let file else { return try await missing(exchange, path) }
      try await exchange.respond(.ok, entry(clean, file))
    case "files/list":
      let prefix = clean == "/" ? "/" : clean + "/"
      let children = server.state.withLock { state in
        state.files.filter {
          $0.key != clean && $0.key.hasPrefix(prefix) && !$0.key.dropFirst(prefix.count).contains("/")
        }
      }
      try await exchange.respond(
        .ok, "[\(children.sorted { $0.key < $1.key }.map { entry($0.key, $0.value) }.joined(separator: ","))]")
    case "files/stream/read":
      guard let bytes = file?.bytes else { return try await missing(exchange, path) }
      try await read(exchange, bytes)
    default: try await server.refuse(exchange, .notFound, "not_found", "no such route")
    }
  }

  private func read(_ exchange: FakeExchange, _ bytes: [UInt8]) async throws {
    guard let limit = server.state.withLock({ $0.truncatesDownloadsAfter }) else {
      return try await exchange.respond(.ok, bytes: ByteBuffer(bytes: bytes))
    }
    try await exchange.begin(.ok, headers: ["Content-Length": "\(bytes.count)"])
    try await exchange.write(ByteBuffer(bytes: bytes.prefix(limit)))
    try await exchange.abort()
  }

  private func write(_ exchange: FakeExchange, _ body: ByteBuffer) async throws {
    guard
      let (path, bytes) = Self.parse(
        Array(body.readableBytesView), exchange.head.headers.first(name: "Content-Type") ?? "")
    else {
      return try await server.refuse(exchange, .badRequest, "invalid_request", "the form is malformed")
    }
    server.state.withLock { $0.files[path] = FakeMartlet.File(bytes: bytes) }
    try await exchange.respond(.noContent)
  }

  /// Parses strictly: the path part, then the file part, then the end.
  static func parse(_ body: [UInt8], _ contentType: String) -> (path: String, bytes: [UInt8])? {
    guard let boundary = contentType.split(separator: "boundary=").last else { return nil }
    let separator = Array("--\(boundary)\r\n".utf8)
    let terminator = Array("\r\n--\(boundary)--\r\n".utf8)
    let pathHead = separator + Array("Content-Disposition: form-data; name=\"path\"\r\n\r\n".utf8)
    guard body.starts(with: pathHead), body.suffix(terminator.count).elementsEqual(terminator) else { return nil }
    let rest = body.dropFirst(pathHead.count)
    guard let end = rest.firstRange(of: Array("\r\n".utf8)) else { return nil }
    let path = String(decoding: rest[..<end.lowerBound], as: UTF8.self)
    let file = rest[end.upperBound...]
    guard file.starts(with: separator), let head = file.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
    return (path, Array(file[head.upperBound...].dropLast(terminator.count)))
  }

  private func missing(_ exchange: FakeExchange, _ path: String) async throws {
    try await server.refuse(exchange, .notFound, "not_found", "\(path) does not exist in the sandbox")
  }

  private static func json(_ text: String) -> String {
    let bytes = try? JSONEncoder().encode(text)
    return bytes.map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
  }

  private func entry(_ path: String, _ file: FakeMartlet.File) -> String {
    let name = path == "/" ? "/" : String(path.split(separator: "/").last ?? "")
    let type = file.bytes == nil ? "directory" : "file"
    return
      #"{"name":\#(Self.json(name)),"path":\#(Self.json(path)),"type":"\#(type)","#
      + #""size":\#(file.bytes?.count ?? 0),"mode":\#(file.mode),"#
      + #""permissions":"-rw-r--r--","owner":"root","group":"root","modified_at":"2026-01-02T03:04:05Z"}"#
  }
}
