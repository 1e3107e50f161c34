import Concurrency
import Hummingbird

/// The table of all routes. It distinguishes 405 from 404 responses; tests compare it with the OpenAPI document.
package final class RouteTable: Sendable {
  package struct Entry: Sendable, Hashable {
    package let method: String
    /// Path in Hummingbird's form, such as `/v1/sandboxes/:id`.
    package let path: String
    package let access: RouteAccess
  }

  private let state = Mutex([Entry]())

  package var entries: [Entry] { state.withLock { $0 } }

  func add(_ method: HTTPRequest.Method, _ path: String, _ access: RouteAccess) {
    state.withLock { $0.append(Entry(method: method.rawValue, path: path, access: access)) }
  }

  /// Methods of the routes that match `path`. As in the router, a literal segment takes precedence over a parameter.
  func methods(for path: String) -> [String] {
    let parts = path.split(separator: "/")
    var matching: [(method: String, parameters: Int)] = []
    for entry in entries {
      let pattern = entry.path.split(separator: "/")
      guard pattern.count == parts.count, zip(pattern, parts).allSatisfy({ $0.hasPrefix(":") || $0 == $1 }) else {
        continue
      }
      matching.append((entry.method, pattern.count { $0.hasPrefix(":") }))
    }
    let fewest = matching.map(\.parameters).min()
    return Set(matching.filter { $0.parameters == fewest }.map(\.method)).sorted()
  }
}

/// Registers routes in the router and in the table, and enforces their `RouteAccess`.
struct RouteRegistrar {
  typealias Action = @Sendable (Request, APIContext) async throws -> Response

  let group: RouterGroup<APIContext>
  let table: RouteTable
  /// Path prefix of `group`.
  let prefix: String
  var access = RouteAccess.team

  /// The same group with another access rule.
  func with(_ access: RouteAccess) -> RouteRegistrar {
    RouteRegistrar(group: group, table: table, prefix: prefix, access: access)
  }

  func on(_ method: HTTPRequest.Method, _ path: String, _ action: @escaping Action) {
    table.add(method, prefix + path, access)
    group.on(RouterPath(path), method: method) { [access] request, context in
      try access.check(context)
      return try await action(request, context)
    }
  }

  func get(_ path: String, _ action: @escaping Action) { on(.get, path, action) }
  func post(_ path: String, _ action: @escaping Action) { on(.post, path, action) }
  func patch(_ path: String, _ action: @escaping Action) { on(.patch, path, action) }
  func delete(_ path: String, _ action: @escaping Action) { on(.delete, path, action) }
}
