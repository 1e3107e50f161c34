import ControlPlane
import Hummingbird
import Model
import Persistence

/// `/v1/api-keys`: the API keys of the session's team.
struct KeyRoutes {
  let keys: APIKeyService

  func register(_ routes: RouteRegistrar) {
    routes.post("/api-keys", create)
    routes.get("/api-keys", list)
    routes.delete("/api-keys/:id", delete)
  }

  @Sendable private func create(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.teamCaller()
    let fields = try JSONFields(try await request.json(), allowed: ["name"])
    let key = try await keys.create(name: try fields.string("name"), for: caller)
    return JSONResponse.make(Wire.key(key.record).adding("key", .string(key.secret)), status: .created)
  }

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    let page = try ListQuery.page(request)
    let records = try await keys.list(page, for: context.teamCaller())
    return ListQuery.response(records, page, { ListPosition($0.createdAt, $0.id.uuid) }, Wire.key)
  }

  @Sendable private func delete(_ request: Request, _ context: APIContext) async throws -> Response {
    try await keys.delete(try context.id(APIKeyKind.self), for: context.teamCaller())
    return JSONResponse.noContent
  }
}

extension APIContext {
  /// The caller on a route that concerns the session's team.
  /// - Throws: `no_team` if the user has been removed from the team.
  func teamCaller() throws(MartletError) -> Caller {
    let caller = try caller()
    try caller.principal.requireTeam()
    return caller
  }
}
