import ControlPlane
import Foundation
import HTTPTypes
import HostAPI
import Hummingbird
import Model
import Persistence

/// `/v1/snapshots`: named snapshots and templates.
struct SnapshotRoutes {
  let service: SnapshotService

  func register(_ routes: RouteRegistrar) {
    routes.post("/snapshots", create)
    routes.get("/snapshots", list)
    routes.delete("/snapshots/:name", delete)
  }

  @Sendable private func create(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.caller()
    let overwrites = try Self.flag("overwrite", request)
    let fields = try JSONFields(try await request.json(), allowed: ["sandbox_id", "name"])
    guard let id = SandboxID(wire: try fields.requiredString("sandbox_id")) else {
      throw MartletError(.invalidRequest, "sandbox_id must be sb- and a UUID in lower case")
    }
    let name: SafeName? = if let text = try fields.string("name") { try SafeName(text) } else { nil }
    let snapshot = try await service.create(from: id, name: name, overwrites: overwrites, for: caller)
    return JSONResponse.make(
      Wire.template(snapshot.template).adding("sandbox_id", snapshot.sourceID.map { .string($0.wire) }),
      status: .created)
  }

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.caller()
    let limit = try request.queryInteger("limit", in: Limits.listPage) ?? Limits.defaultListPage
    let after: SafeName? =
      if let text = request.uri.queryParameters["cursor"] { try SafeName(String(text), what: "cursor") } else { nil }
    let (page, next) = try await service.list(Self.kind(request), after: after, limit: limit, for: caller)
    var response = JSONResponse.make(.array(page.map(Wire.template)))
    if let next { response.headers[.nextCursor] = next.value }
    return response
  }

  @Sendable private func delete(_ request: Request, _ context: APIContext) async throws -> Response {
    let text = context.parameters.get("name") ?? ""
    try await service.delete(SafeName(text.removingPercentEncoding ?? text), for: context.caller())
    return JSONResponse.noContent
  }

  private static func kind(_ request: Request) throws(MartletError) -> HostTemplate.Kind? {
    guard let text = request.uri.queryParameters["type"] else { return nil }
    guard let kind = HostTemplate.Kind(rawValue: String(text)) else {
      throw MartletError(.invalidRequest, "type must be base or snapshot")
    }
    return kind
  }

  private static func flag(_ name: String, _ request: Request) throws(MartletError) -> Bool {
    switch request.uri.queryParameters[Substring(name)] {
    case nil, "false", "0": false
    case "true", "1", "": true
    default: throw MartletError(.invalidRequest, "\(name) must be true or false")
    }
  }
}
