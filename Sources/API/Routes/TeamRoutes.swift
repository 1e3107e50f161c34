import ControlPlane
import Hummingbird
import Model
import Persistence

/// `/v1/teams`: teams and their members.
struct TeamRoutes {
  let teams: TeamService

  func register(_ routes: RouteRegistrar) {
    routes.get("/teams", list)
    routes.post("/teams", create)
    routes.get("/teams/:id", get)
    routes.patch("/teams/:id", rename)
    routes.delete("/teams/:id", delete)
    routes.get("/teams/:id/members", members)
    routes.post("/teams/:id/members", addMember)
    routes.patch("/teams/:id/members/:uid", setRole)
    routes.delete("/teams/:id/members/:uid", removeMember)
    routes.post("/teams/:id/leave", leave)
  }

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    JSONResponse.make(.array(try await teams.list(for: context.caller()).map(Wire.team)))
  }

  @Sendable private func create(_ request: Request, _ context: APIContext) async throws -> Response {
    let name = try await name(request)
    return JSONResponse.make(Wire.team(try await teams.create(name: name, for: context.caller())), status: .created)
  }

  @Sendable private func get(_ request: Request, _ context: APIContext) async throws -> Response {
    JSONResponse.make(Wire.team(try await teams.team(context.id(TeamKind.self), for: context.caller())))
  }

  @Sendable private func rename(_ request: Request, _ context: APIContext) async throws -> Response {
    let id = try context.id(TeamKind.self)
    let name = try await name(request)
    return JSONResponse.make(Wire.team(try await teams.rename(id, to: name, for: context.caller())))
  }

  @Sendable private func delete(_ request: Request, _ context: APIContext) async throws -> Response {
    try await teams.delete(context.id(TeamKind.self), for: context.caller())
    return JSONResponse.noContent
  }

  @Sendable private func members(_ request: Request, _ context: APIContext) async throws -> Response {
    let page = try ListQuery.page(request)
    let members = try await teams.members(of: context.id(TeamKind.self), page, for: context.caller())
    return ListQuery.response(members, page, { ListPosition($0.joinedAt, $0.user.uuid) }, Wire.member)
  }

  @Sendable private func addMember(_ request: Request, _ context: APIContext) async throws -> Response {
    let id = try context.id(TeamKind.self)
    let fields = try JSONFields(try await request.json(), allowed: ["email", "role"])
    let role = try Self.role(try fields.string("role") ?? TeamRole.member.rawValue)
    let member = try await teams.addMember(
      try fields.requiredString("email"), role: role, to: id, for: context.caller())
    return JSONResponse.make(Wire.member(member), status: .created)
  }

  @Sendable private func setRole(_ request: Request, _ context: APIContext) async throws -> Response {
    let (id, user) = (try context.id(TeamKind.self), try context.id(UserKind.self, "uid"))
    let fields = try JSONFields(try await request.json(), allowed: ["role"])
    let role = try Self.role(try fields.requiredString("role"))
    return JSONResponse.make(Wire.member(try await teams.setRole(role, of: user, in: id, for: context.caller())))
  }

  @Sendable private func removeMember(_ request: Request, _ context: APIContext) async throws -> Response {
    try await teams.removeMember(
      context.id(UserKind.self, "uid"), from: context.id(TeamKind.self), for: context.caller())
    return JSONResponse.noContent
  }

  @Sendable private func leave(_ request: Request, _ context: APIContext) async throws -> Response {
    try await teams.leave(context.id(TeamKind.self), for: context.caller())
    return JSONResponse.noContent
  }

  private func name(_ request: Request) async throws -> String {
    try JSONFields(try await request.json(), allowed: ["name"]).requiredString("name")
  }

  private static func role(_ text: String) throws(MartletError) -> TeamRole {
    guard let role = TeamRole(rawValue: text) else {
      throw MartletError(.invalidRequest, "role must be \(TeamRole.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return role
  }
}
