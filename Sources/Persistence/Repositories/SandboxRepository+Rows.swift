import Foundation
import Model

extension SandboxRepository {
  static let columns = """
    id, team_id, status, template, vcpus, memory_mb, disk_size_mb, timeout_sec, metadata, envs, network, is_secured, \
    host_id, guest_ip, host_ip, isolation_vmm, isolation_accelerator, started_at, error, created_at, \
    last_active_at, last_updated, auto_resume, is_auto_paused, revision, worker
    """

  static let lookUp = "SELECT \(columns) FROM sandboxes WHERE id = ?"
  static let lookUpInTeam = "\(lookUp) AND team_id = ?"

  static let placeholders = Array(repeating: "?", count: 26).joined(separator: ", ")

  static func parameters(_ record: SandboxRecord, by worker: WorkerID) throws -> [SQLValue] {
    let spec = record.spec
    let head: [SQLValue] = [
      .uuid(spec.id.uuid), .uuid(spec.teamID.uuid), .text(record.status.rawValue), .text(spec.template.value),
      .integer(spec.vcpus),
      .integer(spec.memoryMiB), .integer(spec.diskSizeMiB), .integer(spec.timeoutSeconds),
      .text(try json(spec.metadata)),
      .text(try json(spec.envs)), .text(try json(spec.network)), .bool(spec.isSecured),
    ]
    let tail: [SQLValue] = [
      .optional(record.error), .timestamp(record.createdAt), .optional(record.lastActiveAt),
      .timestamp(record.lastUpdated),
      .bool(record.autoResumes), .bool(record.isAutoPaused), .integer(record.revision),
    ]
    return head + parameters(record.facts) + tail + [worker.value]
  }

  static func parameters(_ facts: SandboxFacts) -> [SQLValue] {
    [
      .optional(facts.hostID?.uuid), .optional(facts.guestIP), .optional(facts.hostIP), .optional(facts.vmm),
      .optional(facts.accelerator), .optional(facts.startedAt),
    ]
  }

  static func record(_ row: SQLRow) throws -> SandboxRecord {
    guard let status = SandboxStatus(rawValue: try row.text(2)) else {
      throw PersistenceError.corruptRow("sandbox status")
    }
    let spec = SandboxSpec(
      id: SandboxID(try row.uuid(0)), teamID: TeamID(try row.uuid(1)), template: try SafeName(row.text(3)),
      vcpus: try row.integer(4),
      memoryMiB: try row.integer(5), diskSizeMiB: try row.integer(6), timeoutSeconds: try row.integer(7),
      metadata: try map(row.text(8)), envs: try map(row.text(9)), network: try policy(row.text(10)),
      isSecured: try row.bool(11))
    let facts = SandboxFacts(
      hostID: try row.optionalUUID(12).map { HostID($0) }, guestIP: try row.optionalText(13),
      hostIP: try row.optionalText(14),
      vmm: try row.optionalText(15), accelerator: try row.optionalText(16), startedAt: try row.optionalDate(17))
    return SandboxRecord(
      spec: spec, status: status, facts: facts, autoResumes: try row.bool(22), isAutoPaused: try row.bool(23),
      error: try row.optionalText(18), createdAt: try row.date(19), lastActiveAt: try row.optionalDate(20),
      lastUpdated: try row.date(21), revision: try row.integer(24), worker: try WorkerID(row, 25))
  }

  /// - Parameter team: nil selects all teams.
  static func listStatement(_ filter: SandboxFilter, team: TeamID?, _ dialect: SQLDialect) -> (String, [SQLValue]) {
    var conditions = [team == nil ? "1 = 1" : "team_id = ?"]
    var parameters: [SQLValue] = team.map { [.uuid($0.uuid)] } ?? []
    if let statuses = filter.statuses {
      let list = statuses.map(\.rawValue).sorted()
      conditions.append("status IN (\(list.map { _ in "?" }.joined(separator: ", ")))")
      parameters += list.map(SQLValue.text)
    }
    // Redundant if the statuses imply it, but it lets the planner use the much smaller partial index of unfinished
    // rows.
    if filter.statuses?.isDisjoint(with: [.stopped, .error]) ?? true {
      conditions.append("status NOT IN ('stopped', 'error')")
    }
    for (key, value) in filter.metadata.sorted(by: { $0.key < $1.key }) {
      conditions.append(dialect.hasPair(in: "sandboxes.metadata"))
      parameters += [.text(key), .text(value)]
    }
    if let cursor = filter.after {
      let time = SQLValue.timestamp(StoredTime.date(microseconds: cursor.createdAtMicroseconds))
      conditions.append("(created_at < ? OR (created_at = ? AND id < ?))")
      parameters += [time, time, .uuid(cursor.id.uuid)]
    }
    parameters.append(.integer(filter.limit))
    let sql = """
      SELECT \(columns) FROM sandboxes WHERE \(conditions.joined(separator: " AND ")) \
      ORDER BY created_at DESC, id DESC LIMIT ?
      """
    return (sql, parameters)
  }

  // Most sandboxes have no metadata, no environment and the default policy, which need no JSON decoder.

  private static func map(_ text: String) throws -> [String: String] {
    guard text != "{}" else { return [:] }
    return try decoded(text)
  }

  private static func policy(_ text: String) throws -> NetworkPolicy {
    guard text != "{}" else { return NetworkPolicy() }
    return try decoded(text)
  }

  private static func json(_ policy: NetworkPolicy) throws -> String {
    policy == NetworkPolicy() ? "{}" : try encoded(policy)
  }

  private static func json(_ map: [String: String]) throws -> String {
    map.isEmpty ? "{}" : try encoded(map)
  }

  private static func encoded(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }

  private static func decoded<Value: Decodable>(_ text: String) throws -> Value {
    do {
      return try JSONDecoder().decode(Value.self, from: Data(text.utf8))
    } catch {
      throw PersistenceError.corruptRow("a JSON column does not decode")
    }
  }
}
