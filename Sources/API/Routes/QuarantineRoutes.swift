import ControlPlane
import Foundation
import HostAPI
import Hummingbird
import Model
import Persistence

/// `/v1/admin/quarantine`: what hosts hold and the database does not know.
struct QuarantineRoutes {
  let quarantine: QuarantineService

  func register(_ routes: RouteRegistrar) {
    routes.get("/admin/quarantine", list)
    routes.post("/admin/quarantine/:id/adopt", adopt)
    routes.delete("/admin/quarantine/:id", destroy)
  }

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    let items = try await quarantine.list(for: context.caller())
    return JSONResponse.make(.array(items.map(json)))
  }

  @Sendable private func adopt(_ request: Request, _ context: APIContext) async throws -> Response {
    let id = try id(context)
    let fields = try JSONFields(try await request.json(), allowed: ["team_id", "name"])
    let team = try fields.string("team_id").map { text throws(MartletError) in
      guard let team = TeamID(wire: text) else {
        throw MartletError(.invalidRequest, "team_id must be team- and a UUID in lower case")
      }
      return team
    }
    let name = try fields.string("name").map { try SafeName($0) }
    switch try await quarantine.adopt(id, team: team, name: name, for: context.caller()) {
    case .sandbox(let record): return JSONResponse.make(Wire.sandbox(record))
    case .snapshot(let record):
      return JSONResponse.make(
        Wire.template(record.template).adding("team_id", .string(record.teamID.wire)))
    }
  }

  @Sendable private func destroy(_ request: Request, _ context: APIContext) async throws -> Response {
    try await quarantine.destroy(id(context), for: context.caller())
    return JSONResponse.noContent
  }

  /// A sandbox's id, or that of a snapshot's generation.
  private func id(_ context: APIContext) throws(MartletError) -> String {
    let text = context.parameters.get("id") ?? ""
    guard SandboxID(wire: text) != nil || GenerationID(wire: text) != nil else {
      throw MartletError(.invalidRequest, "the id must be sb- or gen- and a UUID in lower case")
    }
    return text
  }

  private func json(_ item: QuarantineService.Item) -> JSONValue {
    let found = item.item
    let head: JSONValue = [
      "id": .string(found.id), "host_id": .string(item.hostID.wire), "team_id": .string(found.teamID.wire),
      "team_name": .optional(item.teamName), "created_at": .string(RFC3339.text(found.createdAt)),
      "quarantined_at": .string(RFC3339.text(found.quarantinedAt)),
      "removed_at": item.endsAt.map { .string(RFC3339.text($0)) } ?? .null, "size_bytes": .integer(found.sizeBytes),
    ]
    switch found.kind {
    case .sandbox(let spec, let state):
      return head.adding("type", .string("sandbox")).adding("template", .string(spec.template.value))
        .adding("status", .string(state.status.rawValue)).adding("vcpus", .integer(spec.vcpus))
        .adding("memory_mb", .integer(spec.memoryMiB)).adding("disk_size_mb", .integer(spec.diskSizeMiB))
        .adding("metadata", .map(spec.metadata)).adding("error", state.reason.map(JSONValue.string))
    case .snapshot(_, let template):
      return head.adding("type", .string("snapshot")).adding("name", .string(template.name.value))
        .adding("vcpus", template.shape.map { .integer($0.vcpus) })
        .adding("memory_mb", template.shape.map { .integer($0.memoryMiB) })
        .adding("disk_size_mb", template.shape.map { .integer($0.diskSizeMiB) })
    }
  }
}
