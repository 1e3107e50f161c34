import ControlPlane
import Foundation
import HostAPI
import Hummingbird
import Model
import Persistence

/// `/v1/admin`: users, teams, hosts, sandboxes and templates of the whole platform.
struct AdminRoutes {
  let admin: AdminService
  let snapshots: SnapshotService

  func register(_ routes: RouteRegistrar) {
    routes.get("/admin/users", users)
    routes.post("/admin/users", createUser)
    routes.patch("/admin/users/:id", updateUser)
    routes.get("/admin/teams", teams)
    routes.patch("/admin/teams/:id", updateTeam)
    routes.get("/admin/hosts", hosts)
    routes.get("/admin/sandboxes", sandboxes)
    routes.get("/admin/templates", templates)
    routes.delete("/admin/templates/:name", deleteTemplate)
  }

  @Sendable private func users(_ request: Request, _ context: APIContext) async throws -> Response {
    let page = try ListQuery.page(request)
    let users = try await admin.users(page, for: context.caller())
    return ListQuery.response(users, page, { ListPosition($0.createdAt, $0.userID.uuid) }, Wire.profile)
  }

  @Sendable private func createUser(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try JSONFields(try await request.json(), allowed: ["email", "password", "name", "is_admin"])
    let (profile, team) = try await admin.createUser(
      email: try fields.requiredString("email"), password: try fields.requiredString("password"),
      name: try fields.requiredString("name"), isAdmin: try fields.bool("is_admin") ?? false, for: context.caller())
    return JSONResponse.make(Wire.profile(profile).adding("team_id", .string(team.wire)), status: .created)
  }

  @Sendable private func updateUser(_ request: Request, _ context: APIContext) async throws -> Response {
    let id = try context.id(UserKind.self)
    let fields = try JSONFields(try await request.json(), allowed: ["is_admin"])
    guard let isAdmin = try fields.bool("is_admin") else { throw MartletError(.invalidRequest, "is_admin is required") }
    return JSONResponse.make(Wire.profile(try await admin.setAdmin(id, isAdmin, for: context.caller())))
  }

  @Sendable private func teams(_ request: Request, _ context: APIContext) async throws -> Response {
    let page = try ListQuery.page(request)
    let teams = try await admin.teams(page, for: context.caller())
    return ListQuery.response(teams, page, { ListPosition($0.team.createdAt, $0.team.id.uuid) }) {
      json($0.team, $0.usage)
    }
  }

  /// Sets a team's quota; a bound that is left out returns to the server's default.
  @Sendable private func updateTeam(_ request: Request, _ context: APIContext) async throws -> Response {
    let id = try context.id(TeamKind.self)
    let names = ["max_sandboxes", "max_vcpus", "max_memory_mb", "max_disk_mb", "max_snapshots"]
    let body = try JSONFields(try await request.json(), allowed: ["quota"])
    guard let fields = try body.object("quota", allowed: names) else {
      throw MartletError(.invalidRequest, "quota is required")
    }
    let quota = QuotaRecord(
      sandboxes: try fields.integer("max_sandboxes"), vcpus: try fields.integer("max_vcpus"),
      memoryMiB: try fields.integer("max_memory_mb"), diskMiB: try fields.integer("max_disk_mb"),
      snapshots: try fields.integer("max_snapshots"))
    return JSONResponse.make(json(try await admin.setQuota(quota, of: id, for: context.caller())))
  }

  @Sendable private func hosts(_ request: Request, _ context: APIContext) async throws -> Response {
    let hosts = try await admin.hosts(for: context.caller())
    return JSONResponse.make(
      .array(
        hosts.map { host in
          [
            "id": .string(host.id.wire), "reachable": .bool(host.isReachable), "sandboxes": .integer(host.sandboxes),
            "running": .integer(host.running),
          ]
        }))
  }

  @Sendable private func sandboxes(_ request: Request, _ context: APIContext) async throws -> Response {
    let (page, next) = try await admin.sandboxes(SandboxQuery.filter(request), for: context.caller())
    var response = JSONResponse.make(.array(page.map(Wire.sandbox)))
    if let next { response.headers[.nextCursor] = SandboxQuery.text(next) }
    return response
  }

  @Sendable private func templates(_ request: Request, _ context: APIContext) async throws -> Response {
    let templates = try await admin.templates(for: context.caller())
    return JSONResponse.make(.array(templates.map { Wire.template($0).adding("team_id", .string($0.teamID.wire)) }))
  }

  /// Deletes a template of the team `team_id`, or of the platform team without it.
  @Sendable private func deleteTemplate(_ request: Request, _ context: APIContext) async throws -> Response {
    let text = context.parameters.get("name") ?? ""
    let name = try SafeName(text.removingPercentEncoding ?? text)
    var team = TeamID.platform
    if let text = request.uri.queryParameters["team_id"] {
      guard let given = TeamID(wire: String(text)) else {
        throw MartletError(.invalidRequest, "team_id must be team- and a UUID in lower case")
      }
      team = given
    }
    try await snapshots.delete(name, of: team, for: context.caller())
    return JSONResponse.noContent
  }

  private func json(_ team: TeamRecord, _ usage: TeamUsage? = nil) -> JSONValue {
    let json: JSONValue = [
      "id": .string(team.id.wire), "name": .string(team.name), "created_at": .string(RFC3339.text(team.createdAt)),
      "quota": Wire.quota(admin.quota(of: team)),
    ]
    return json.adding("usage", usage.map(Wire.usage))
  }
}
