import ControlPlane
import Foundation
import Hummingbird
import Model
import Persistence

/// `/v1/audit-logs`: the audit log of a team.
struct AuditRoutes {
  private static let maximumFilterBytes = 256
  /// 1970-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
  private static let times = Date(timeIntervalSince1970: 0)...Date(timeIntervalSince1970: 253_402_300_799)

  let audit: AuditService

  func register(_ routes: RouteRegistrar) {
    routes.get("/audit-logs", list)
  }

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    let query = request.uri.queryParameters
    var filter = AuditFilter(
      limit: 1 + (try request.queryInteger("limit", in: Limits.listPage) ?? Limits.defaultListPage))
    filter.action = try text(query["action"], "action")
    filter.actorID = try text(query["actor_id"], "actor_id")
    filter.targetType = try text(query["target_type"], "target_type")
    filter.targetID = try text(query["target_id"], "target_id")
    filter.outcome = try text(query["outcome"], "outcome")
    filter.since = try time(query["since"], "since")
    filter.until = try time(query["until"], "until")
    let rows = try await audit.list(
      filter, after: try text(query["cursor"], "cursor"), team: try team(query["team_id"]), for: context.caller())
    let shown = rows.prefix(filter.limit - 1)
    var response = JSONResponse.make(.array(shown.map { Wire.audit($0.id, $0.record) }))
    if rows.count >= filter.limit, let last = shown.last { response.headers[.nextCursor] = last.id }
    return response
  }

  private func text(_ value: Substring?, _ name: String) throws(MartletError) -> String? {
    guard let value else { return nil }
    guard (1...Self.maximumFilterBytes).contains(value.utf8.count), !value.utf8.contains(0) else {
      throw MartletError(.invalidRequest, "\(name) must have 1 to \(Self.maximumFilterBytes) bytes, none of them NUL")
    }
    return String(value)
  }

  private func time(_ value: Substring?, _ name: String) throws(MartletError) -> Date? {
    guard let value else { return nil }
    let text = String(value)
    guard text.utf8.count <= 40,
      let date = (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
        ?? (try? Date(text, strategy: Date.ISO8601FormatStyle()))
    else { throw MartletError(.invalidRequest, "\(name) must be an RFC 3339 time such as 2026-01-02T03:04:05Z") }
    // Foundation accepts more years than RFC 3339 and than the databases.
    guard Self.times.contains(date) else {
      throw MartletError(.invalidRequest, "\(name) must be in the years 1970 to 9999")
    }
    return date
  }

  private func team(_ value: Substring?) throws(MartletError) -> TeamID? {
    guard let value else { return nil }
    guard let team = TeamID(wire: String(value)) else {
      throw MartletError(.invalidRequest, "team_id must be team- and a UUID in lower case")
    }
    return team
  }
}
