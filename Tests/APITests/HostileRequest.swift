import API
import Foundation
import NIOCore
import NIOHTTP1
import TestSupport

/// A hostile request, generated from a seed.
struct HostileRequest {
  var method: HTTPMethod
  var path: String
  var headers: [(String, String)] = []
  var body: ByteBuffer?

  /// Existing objects that requests may name, so that some requests get past the look-up.
  struct Dependencies: Sendable {
    var ids: [String]
    var credentials: [[(String, String)]]
  }

  private static let words = [
    "", "0", "-1", "1", "00", "1e9", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "NaN",
    "null", "true", "'", "\"",
    "';DROP TABLE users;--", "\" OR 1=1 --", "%00", "%2e%2e%2f", "..", "../../etc/passwd", "%", "%zz", "%ff%fe",
    "a%0d%0aX:1", "+", "?",
    "*",
    "sb-", "sb-00000000-0000-0000-0000-000000000000", "team-00000000-0000-0000-0000-000000000000",
    "sb-FFFFFFFF-0000-0000-0000-000000000000",
    "usr-x", "key-", "host-1", "snap", "minimal", "base", "%F0%9F%98%80", "%C3%28", "$(id)", "`id`", "${jndi:ldap://x}",
    "%s%n%d",
    "a%3D%2500", "%2500%3D1", "2026-01-01T00:00:00Z", "9999-99-99T99:99:99Z", "running", "stopped", "error,running",
    "a=b", "=", "KILL",
    "99",
  ]

  private static let fields = [
    "email", "password", "name", "is_admin", "current_password", "new_password", "team_id", "role", "quota", "template",
    "vcpus",
    "memory_mb", "disk_size_mb", "timeout_sec", "auto_resume", "metadata", "envs", "network", "generation", "count",
    "cmd", "args", "cwd",
    "user", "background", "tag", "path", "depth", "from", "to", "sandbox_id", "max_vcpus", "egress", "__proto__", "",
  ]

  private static let texts = [
    "", " ", "\u{0}", "a\u{0}b", "\u{FFFF}", "\u{202E}", "e\u{301}", "🧨", "\r\n", "a@b.c", "@", "minimal", "/", "/x",
    "../..", "owner",
    "'; --",
    "-1", "1e400", "mrt_0000000000000000000000000000000000000000", "\u{1B}[2J", "nobody", "root", "latest",
    String(repeating: "a", count: 300),
  ]

  private static let queries = [
    "limit", "cursor", "status", "metadata", "range", "type", "overwrite", "signal", "since", "until", "action",
    "actor_id", "target_id",
    "target_type", "outcome", "team_id", "binary", "depth", "q",
  ]

  static func random(
    _ entry: RouteTable.Entry, _ dependencies: Dependencies, using generator: inout SeededGenerator
  ) -> HostileRequest {
    var method = HTTPMethod(rawValue: entry.method)
    if chance(8, &generator) {
      method = pick([.GET, .POST, .PUT, .PATCH, .DELETE, .OPTIONS, .TRACE, .RAW(value: "BREW")], &generator)
    }
    var request = HostileRequest(method: method, path: path(entry.path, dependencies, &generator))
    request.headers = pick(dependencies.credentials, &generator) + strangeHeaders(&generator)
    // A handshake would upgrade the connection to a WebSocket.
    guard method != .GET, method != .TRACE, !chance(8, &generator) else { return request }
    let (type, body) = chance(6, &generator) ? form(&generator) : ("application/json", json(&generator))
    request.headers.append(
      (
        "Content-Type",
        chance(8, &generator) ? pick(["", "text/plain", "application/json; charset=utf-16"], &generator) : type
      ))
    request.body = body
    return request
  }

  private static func path(
    _ pattern: String, _ dependencies: Dependencies, _ generator: inout SeededGenerator
  ) -> String {
    let parts = pattern.split(separator: "/").map { part -> String in
      guard part.hasPrefix(":") else { return chance(40, &generator) ? word(&generator) : String(part) }
      return chance(2, &generator) ? pick(dependencies.ids, &generator) : word(&generator)
    }
    let path = "/" + parts.joined(separator: "/")
    guard chance(2, &generator) else { return path }
    let pairs = (0..<Int.random(in: 1...3, using: &generator)).map { _ in
      "\(pick(queries, &generator))=\(word(&generator))"
    }
    return path + "?" + pairs.joined(separator: "&")
  }

  /// Text for a path or query.
  private static func word(_ generator: inout SeededGenerator) -> String {
    let text =
      chance(12, &generator)
      ? String(repeating: pick(["a", "%41", "..%2f", "-"], &generator), count: 1_000) : pick(words, &generator)
    let allowed = CharacterSet(charactersIn: "%").union(.urlPathAllowed).subtracting(CharacterSet(charactersIn: "?#"))
    return text.addingPercentEncoding(withAllowedCharacters: allowed) ?? ""
  }

  private static func strangeHeaders(_ generator: inout SeededGenerator) -> [(String, String)] {
    let all = [
      ("Idempotency-Key", pick(["", " ", "k", String(repeating: "k", count: 256), "\u{7F}", "ü"], &generator)),
      (
        "Authorization",
        pick(["", "Bearer", "Bearer ", "Basic YTpi", "bearer e30.e30.", "Bearer eyJhbGciOiJub25lIn0.e30."], &generator)
      ),
      (
        "Cookie",
        pick(["martlet_session=", "martlet_session=x; martlet_session=y", ";;;=", "martlet_session"], &generator)
      ),
      ("Origin", pick(["null", "http://evil.example", "", "http://127.0.0.1"], &generator)),
      ("X-Forwarded-For", pick(["1.2.3.4", "x,y,z", "", String(repeating: "1.1.1.1,", count: 200)], &generator)),
      ("Range", "bytes=0-0,-1"), ("Expect", "tea"), ("Accept-Encoding", "zstd;q=9"), ("X-Request-Id", "a b"),
      ("Content-Encoding", "gzip"),
      ("Upgrade", "h2c"),
      ("X-API-Key", pick(["", "mrt_", "e2b_zz", "mrt_" + String(repeating: "G", count: 40)], &generator)),
      ("X-Big", String(repeating: "x", count: 9_000)),
    ]
    guard chance(3, &generator) else { return [] }
    return (0..<Int.random(in: 1...3, using: &generator)).map { _ in pick(all, &generator) }
  }

  private static func json(_ generator: inout SeededGenerator) -> ByteBuffer {
    switch Int.random(in: 0..<12, using: &generator) {
    case 0:
      return ByteBuffer(
        bytes: (0..<Int.random(in: 1...200, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator)
        })
    case 1:
      return ByteBuffer(
        string: String(
          repeating: pick(["[", #"{"a":"#], &generator), count: Int.random(in: 1...5_000, using: &generator)))
    case 2:
      var bytes = Array(object(depth: 2, &generator).utf8)
      for _ in 0..<3 {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      return ByteBuffer(bytes: bytes)
    case 3:
      return ByteBuffer(
        string: pick(
          ["", "null", "1", "\"\"", "[]", "{", "{}{}", "{\"a\":1,\"a\":2}", "\u{FEFF}{}", "{\"name\":\"\\ud800\"}"],
          &generator))
    default: return ByteBuffer(string: object(depth: 3, &generator))
    }
  }

  private static func object(depth: Int, _ generator: inout SeededGenerator) -> String {
    let members = (0..<Int.random(in: 0...5, using: &generator)).map { _ in
      "\(quoted(pick(fields, &generator))):\(value(depth: depth - 1, &generator))"
    }
    return "{\(members.joined(separator: ","))}"
  }

  private static func value(depth: Int, _ generator: inout SeededGenerator) -> String {
    switch Int.random(in: 0..<(depth > 0 ? 9 : 6), using: &generator) {
    case 0: return pick(["null", "true", "false"], &generator)
    case 1:
      return pick(
        ["0", "-1", "1", "2", "64", "512", "1e3", "1e400", "-0", "0.5", "9223372036854775808", "99999999999999999999"],
        &generator)
    case 2...5: return quoted(pick(texts, &generator))
    case 6: return "[" + (0..<3).map { _ in value(depth: depth - 1, &generator) }.joined(separator: ",") + "]"
    default: return object(depth: depth, &generator)
    }
  }

  private static func form(_ generator: inout SeededGenerator) -> (String, ByteBuffer) {
    let boundary = pick(["B", "", "\"B", String(repeating: "b", count: 100)], &generator)
    let parts = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
      "--B\r\nContent-Disposition: form-data; name=\"\(pick(["path", "file", "", "\u{0}"], &generator))\"\r\n\r\n"
        + "\(pick(texts, &generator))\r\n"
    }
    let end = pick(["--B--\r\n", "--B", "--B-", ""], &generator)
    return ("multipart/form-data; boundary=\(boundary)", ByteBuffer(string: parts.joined() + end))
  }

  /// JSON in which characters that need escapes are only sometimes escaped.
  private static func quoted(_ text: String) -> String {
    let bytes = (try? JSONEncoder().encode(text)) ?? Data("\"\"".utf8)
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func pick<Value>(_ values: [Value], _ generator: inout SeededGenerator) -> Value {
    values[Int.random(in: 0..<values.count, using: &generator)]
  }

  private static func chance(_ oneIn: Int, _ generator: inout SeededGenerator) -> Bool {
    Int.random(in: 0..<oneIn, using: &generator) == 0
  }
}
