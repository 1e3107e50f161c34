import ControlPlane
import Foundation
import Hummingbird
import Model
import Persistence

/// `/v1/sandboxes`: create, list, get, destroy, statistics and metrics.
struct SandboxRoutes {
  let service: SandboxService
  private let pages = PageCache()

  init(service: SandboxService) {
    self.service = service
  }

  func register(_ routes: RouteRegistrar) {
    routes.post("/sandboxes", create)
    routes.get("/sandboxes", list)
    routes.get("/sandboxes/stats", statistics)
    routes.get("/sandboxes/:id", get)
    routes.delete("/sandboxes/:id", destroy)
    routes.get("/sandboxes/:id/metrics", metrics)
  }

  @Sendable private func create(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.caller()
    let result = try await service.create(
      CreateRequestBody.parse(try await request.json()), for: caller, idempotencyKey: request.headers[.idempotencyKey])
    return JSONResponse.make(Wire.sandbox(result), status: .created)
  }

  @Sendable private func get(_ request: Request, _ context: APIContext) async throws -> Response {
    let id = try context.sandboxID()
    return JSONResponse.make(
      Wire.sandbox(try await service.sandbox(id, for: context.caller(), notBefore: context.version)))
  }

  @Sendable private func destroy(_ request: Request, _ context: APIContext) async throws -> Response {
    try await service.destroy(context.sandboxID(), for: context.caller())
    return JSONResponse.noContent
  }

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.caller()
    let key = PageCache.Key(team: caller.teamID, query: request.uri.query ?? "")
    let page = try await pages.page(key, version: context.version) {
      let (page, next) = try await service.list(SandboxQuery.filter(request), for: caller)
      return PageCache.Page(body: JSONWriter.bytes(.array(page.map(Wire.sandbox))), cursor: next.map(SandboxQuery.text))
    }
    var response = JSONResponse.make(page.body)
    if let cursor = page.cursor { response.headers[.nextCursor] = cursor }
    return response
  }

  @Sendable private func statistics(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.caller()
    let range = try Self.range(request) ?? .hour
    return JSONResponse.make(Wire.statistics(try await service.statistics(range, for: caller), range))
  }

  @Sendable private func metrics(_ request: Request, _ context: APIContext) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    guard let range = try Self.range(request) else {
      return JSONResponse.make(.array([Wire.metrics(try await service.metrics(of: id, for: caller))]))
    }
    return JSONResponse.make(.array(try await service.metrics(of: id, range, for: caller).map(Wire.metrics)))
  }

  private static func range(_ request: Request) throws(MartletError) -> StatisticsRange? {
    guard let text = request.uri.queryParameters["range"] else { return nil }
    guard let range = StatisticsRange(rawValue: String(text)) else {
      let known = StatisticsRange.allCases.map(\.rawValue).joined(separator: ", ")
      throw MartletError(.invalidRequest, "range must be one of \(known)")
    }
    return range
  }
}

/// Parses the body of a create request.
enum CreateRequestBody {
  private static let fields = [
    "template", "vcpus", "memory_mb", "timeout_sec", "disk_size_mb", "metadata", "envs", "auto_resume", "network",
  ]

  static func parse(_ json: JSONValue) throws(MartletError) -> NewSandbox {
    let fields = try JSONFields(json, allowed: fields)
    var new = NewSandbox()
    if let template = try fields.string("template") { new.template = try SafeName(template, what: "template") }
    new.vcpus = try fields.integer("vcpus")
    new.memoryMiB = try fields.integer("memory_mb")
    new.diskSizeMiB = try fields.integer("disk_size_mb")
    new.timeoutSeconds = try fields.integer("timeout_sec") ?? 0
    new.metadata = try fields.map("metadata") ?? [:]
    new.envs = try fields.map("envs") ?? [:]
    new.autoResumes = try fields.bool("auto_resume") ?? false
    if let network = try fields.object("network", allowed: ["egress", "allow", "deny"]) {
      new.network = NetworkPolicy(
        allowsEgress: try network.bool("egress") ?? true, allow: try network.strings("allow") ?? [],
        deny: try network.strings("deny") ?? [])
    }
    try new.validate()
    return new
  }
}

/// Filters and cursors of the sandbox list.
enum SandboxQuery {
  static func filter(_ request: Request) throws(MartletError) -> SandboxFilter {
    let query = request.uri.queryParameters
    var filter = SandboxFilter(limit: try request.queryInteger("limit", in: Limits.listPage) ?? Limits.defaultListPage)
    if let text = query["status"] { filter.statuses = try statuses(text) }
    for text in query[values: "metadata"] { try addPairs(String(text), to: &filter.metadata) }
    guard filter.metadata.count <= Limits.mapEntries else {
      throw MartletError(.invalidRequest, "metadata may have at most \(Limits.mapEntries) key=value pairs")
    }
    if let text = query["cursor"] { filter.after = try cursor(String(text)) }
    return filter
  }

  /// The cursor's text; opaque to clients.
  static func text(_ cursor: SandboxCursor) -> String {
    "\(cursor.createdAtMicroseconds)_\(cursor.id.uuidString)"
  }

  private static func cursor(_ text: String) throws(MartletError) -> SandboxCursor {
    let parts = text.split(separator: "_", omittingEmptySubsequences: false)
    guard parts.count == 2, let time = Int64(parts[0]), abs(Double(time)) < 1e17,
      let id = SandboxID(wire: "\(SandboxKind.prefix)-\(parts[1])")
    else { throw MartletError(.invalidRequest, "cursor must be the X-Next-Cursor header of the previous page") }
    return SandboxCursor(createdAtMicroseconds: time, id: id)
  }

  private static func statuses(_ text: Substring) throws(MartletError) -> Set<SandboxStatus> {
    var statuses: Set<SandboxStatus> = []
    for name in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let status = SandboxStatus(rawValue: String(name)) else {
        let known = SandboxStatus.allCases.map(\.rawValue).joined(separator: ", ")
        throw MartletError(.invalidRequest, "status must be one or more, separated by commas, of \(known)")
      }
      statuses.insert(status)
    }
    return statuses
  }

  /// Parses `key=value&key=value`, percent-encoded as a whole, as E2B's clients send it.
  private static func addPairs(_ text: String, to map: inout [String: String]) throws(MartletError) {
    for pair in text.split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, !parts[0].isEmpty else {
        throw MartletError(.invalidRequest, "metadata must be key=value pairs joined with & and percent-encoded")
      }
      let (key, value) = (decoded(parts[0]), decoded(parts[1]))
      guard !key.utf8.contains(0), !value.utf8.contains(0) else {
        throw MartletError(.invalidRequest, "metadata must not contain NUL bytes")
      }
      map[key] = value
    }
  }

  private static func decoded(_ text: Substring) -> String {
    text.removingPercentEncoding ?? String(text)
  }
}
