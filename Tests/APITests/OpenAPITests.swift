import API
import Foundation
import Model
import NIOHTTP1
import TestSupport
import Testing

/// Compares the OpenAPI document with the server's routes and responses.
@Suite struct OpenAPITests {
  private struct Operation: Hashable {
    var method: String
    var path: String
    var access: String
    var statuses: Set<String> = []
  }

  @Test("the document lists exactly the registered routes with their access rules")
  func routes() async throws {
    try await withServer { server async throws -> Void in
      let response = try await server.send(.GET, "/openapi.yaml", isAuthenticated: false)
      #expect(response.status == 200 && response.headers.first(name: "Content-Type") == "application/yaml")
      let documented = try Self.operations(response.text).map {
        Operation(method: $0.method, path: $0.path, access: $0.access)
      }
      let registered = server.routes.entries.map {
        Operation(method: $0.method, path: Self.template($0.path), access: $0.access.rawValue)
      }
      #expect(Set(registered).count == registered.count && Set(documented).count == documented.count)
      #expect(Set(registered).subtracting(documented).isEmpty, "missing in the document")
      #expect(Set(documented).subtracting(registered).isEmpty, "not registered")
    }
  }

  @Test("every operation lists its possible statuses and has no default response")
  func statuses() async throws {
    try await withServer { server async throws -> Void in
      let text = try await server.send(.GET, "/openapi.yaml", isAuthenticated: false).text
      let common: [String: Set<String>] = [
        "open": [], "operators": ["401", "403", "500", "503"], "team": ["401", "403", "429", "500", "503"],
        "user": ["401", "403", "429", "500", "503"], "admin": ["401", "403", "429", "500", "503"],
      ]
      for operation in try Self.operations(text) {
        let needed = try #require(common[operation.access]).union(operation.path.contains("{") ? ["404"] : [])
        #expect(needed.isSubset(of: operation.statuses), "\(operation) lacks \(needed.subtracting(operation.statuses))")
        #expect(
          operation.statuses.contains { $0.hasPrefix("2") || $0 == "101" } && !operation.statuses.contains("default"),
          "\(operation)")
      }
    }
  }

  @Test("the document lists exactly the existing error codes and states")
  func codes() async throws {
    try await withServer { server async throws -> Void in
      let text = try await server.send(.GET, "/openapi.yaml", isAuthenticated: false).text
      #expect(try Self.words(of: "ErrorCode", in: text) == Set(ErrorCode.allCases.map(\.rawValue)))
      #expect(try Self.words(of: "Status", in: text) == Set(SandboxStatus.allCases.map(\.rawValue)))
    }
  }

  @Test("real responses have exactly the fields that the document lists")
  func fields() async throws {
    try await withServer { server async throws -> Void in
      let text = try await server.send(.GET, "/openapi.yaml", isAuthenticated: false).text
      let admin = try await server.logInAsAdmin()
      let id = try await server.create()
      let frozen = try await server.send(.POST, "/v1/snapshots", json: #"{"sandbox_id":"\#(id)","name":"kept"}"#)
      #expect(frozen.status == 201)
      let responses: [(String, [String: Any]?)] = [
        ("Sandbox", try await server.send(.GET, "/v1/sandboxes/\(id)").json), ("Template", frozen.json),
        ("Me", try await server.send(.GET, "/v1/me", as: admin).json),
        ("NewKey", try await server.send(.POST, "/v1/api-keys", as: admin, json: "{}").json),
        ("Key", try await server.send(.GET, "/v1/api-keys", as: admin).list.first),
        ("Team", try await server.send(.GET, "/v1/teams", as: admin).list.first),
        ("Member", try await server.send(.GET, "/v1/teams/\(admin.team)/members", as: admin).list.first),
        ("AuditEntry", try await server.send(.GET, "/v1/audit-logs", as: admin).list.first),
        ("Profile", try await server.send(.GET, "/v1/admin/users", as: admin).list.first),
        ("AdminTeam", try await server.send(.GET, "/v1/admin/teams", as: admin).list.first),
        ("AdminTemplate", try await server.send(.GET, "/v1/admin/templates", as: admin).list.first),
        ("Host", try await server.send(.GET, "/v1/admin/hosts", as: admin).list.first),
        ("Statistics", try await server.send(.GET, "/v1/sandboxes/stats").json),
        ("Health", try await server.send(.GET, "/health").json),
        ("Error", try await server.send(.GET, "/v1/nothing").json),
      ]
      for (name, response) in responses {
        let schema = try Self.schema(name, in: text)
        let keys = Set(try #require(response, "\(name)").keys)
        #expect(schema.required.isSubset(of: keys), "\(name) lacks \(schema.required.subtracting(keys))")
        #expect(keys.isSubset(of: schema.properties), "\(name) has \(keys.subtracting(schema.properties)) too")
      }
    }
  }

  // MARK: Parsing the document

  /// Paths are indented by two spaces, methods by four, their properties by six.
  private static func operations(_ text: String) throws -> [Operation] {
    var operations: [Operation] = []
    var path = ""
    for line in try section("paths:", in: text) {
      if let match = line.wholeMatch(of: #/  (\/\S*):/#) { path = String(match.1) }
      if let match = line.wholeMatch(of: #/    (get|put|post|delete|options|head|patch|trace):/#) {
        operations.append(Operation(method: match.1.uppercased(), path: path, access: ""))
      }
      if let match = line.wholeMatch(of: #/      x-access: (\w+)/#) {
        operations[operations.count - 1].access = String(match.1)
      }
      if let match = line.prefixMatch(of: #/        "?(\d{3}|default)"?:/#) {
        operations[operations.count - 1].statuses.insert(String(match.1))
      }
    }
    return operations
  }

  private static func schema(_ name: String, in text: String) throws -> (required: Set<String>, properties: Set<String>)
  {
    let lines = try block(name, in: text)
    let required = lines.joined(separator: " ").firstMatch(of: #/ {7}required:\s*\[([^\]]*)\]/#)?.1 ?? ""
    let properties = lines.compactMap { $0.prefixMatch(of: #/        (\w+):(?: |$)/#)?.1 }.map(String.init)
    return (Set(required.split { $0 == "," || $0 == " " }.map(String.init)), Set(properties))
  }

  private static func words(of name: String, in text: String) throws -> Set<String> {
    let joined = try block(name, in: text).joined(separator: " ")
    let list = try #require(joined.firstMatch(of: /enum: \[([^\]]*)\]/)).1
    return Set(list.split { $0 == "," || $0 == " " }.map(String.init))
  }

  /// The lines of a schema.
  private static func block(_ name: String, in text: String) throws -> [Substring] {
    let lines = try section("  schemas:", in: text)
    let start = try #require(lines.firstIndex { $0.hasPrefix("    \(name):") })
    let end = lines[(start + 1)...].firstIndex { $0.hasPrefix("    ") && !$0.hasPrefix("     ") } ?? lines.endIndex
    return Array(lines[start..<end])
  }

  private static func section(_ title: String, in text: String) throws -> [Substring] {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let start = try #require(lines.firstIndex { $0 == title })
    let depth = title.prefix { $0 == " " }.count
    let end =
      lines[(start + 1)...].firstIndex { !$0.isEmpty && $0.prefix { $0 == " " }.count <= depth } ?? lines.endIndex
    return Array(lines[(start + 1)..<end])
  }

  /// `/a/:id` as `/a/{id}`.
  private static func template(_ path: String) -> String {
    path.split(separator: "/", omittingEmptySubsequences: false).map {
      $0.hasPrefix(":") ? "{\($0.dropFirst())}" : String($0)
    }
    .joined(separator: "/")
  }
}
