package import Model

/// Stores users and their rights.
package struct PeopleRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  package func hasUsers() async throws -> Bool {
    try await database.query { try $0.row("SELECT 1 FROM users LIMIT 1", []) != nil }
  }

  package func user(_ id: UserID) async throws -> UserRecord? {
    try await database.query { connection in
      try connection.row("SELECT \(Self.columns) FROM users WHERE id = ?", [.uuid(id.uuid)]).map(Self.record)
    }
  }

  /// - Parameter email: trimmed and lower-cased.
  package func user(email: String) async throws -> UserRecord? {
    try await database.query { connection in
      try connection.row("SELECT \(Self.columns) FROM users WHERE email = ?", [.text(email)]).map(Self.record)
    }
  }

  /// Oldest first.
  package func users(_ page: ListPage) async throws -> [UserRecord] {
    let (sql, parameters) = page.clause(time: "created_at", id: "id")
    return try await database.query { connection in
      try connection.rows("SELECT \(Self.columns) FROM users WHERE 1 = 1\(sql)", parameters).map(Self.record)
    }
  }

  /// The rights of a user in a team, with one read by primary keys; nil when the user does not exist.
  package func access(of user: UserID, in team: TeamID) async throws -> UserAccess? {
    try await findAccess(of: user, in: team).value
  }

  package func findAccess(of user: UserID, in team: TeamID) async throws -> LookUpResult<UserAccess?> {
    try await database.find(Self.accessQuery, [.uuid(team.uuid), .uuid(user.uuid)], notBefore: nil).map { row in
      try row.map { row in
        UserAccess(
          isAdmin: try row.bool(0), sessionEpoch: try row.integer(1),
          role: try row.optionalText(2).map(TeamRepository.role))
      }
    }
  }

  private static let accessQuery = """
    SELECT users.is_admin, users.session_epoch, memberships.role FROM users \
    LEFT JOIN memberships ON memberships.user_id = users.id AND memberships.team_id = ? WHERE users.id = ?
    """

  /// Inserts the platform team if it does not exist.
  package func ensureTeam(_ team: TeamRecord) async throws {
    try await database.write { connection in
      _ = try connection.execute(
        "INSERT INTO teams (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
        [.uuid(team.id.uuid), .text(team.name), .timestamp(team.createdAt)])
    }
  }

  /// Creates a user together with a team, the membership and an API key in one transaction.
  /// - Parameter administrator: the acting administrator; nil for users who sign up, and for programs on the host.
  /// - Throws: `PersistenceError.duplicate` when the e-mail is taken; `AuthorizationRefusal`.
  package func insert(
    user: UserRecord, team: TeamRecord, membership: MembershipRecord, key: APIKeyRecord?, audit: [AuditRecord],
    onlyIfNoUsers: Bool = false, by administrator: ActingUser? = nil
  ) async throws -> Bool {
    try await database.write { connection in
      try administrator?.requireAdministrator(connection)
      if onlyIfNoUsers, try connection.row("SELECT 1 FROM users LIMIT 1", []) != nil { return false }
      try TeamRepository.insert(team, connection)
      try connection.execute(
        "INSERT INTO users (\(Self.columns)) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
          .uuid(user.id.uuid), .text(user.email), .text(user.name), .text(user.passwordHash), .bool(user.isAdmin),
          .timestamp(user.createdAt), .integer(user.sessionEpoch),
        ])
      try TeamRepository.insert(membership, connection)
      if let key { try APIKeyRepository.insert(key, connection) }
      for record in audit { try AuditRepository.insert(record, connection) }
      return true
    }
  }

  /// Sets the given columns only, as another request may change the others at the same time.
  /// - Throws: `PersistenceError.duplicate` when the e-mail is taken.
  /// - Returns: whether the user exists.
  package func setProfile(_ id: UserID, email: String?, name: String?, audit: AuditRecord) async throws -> Bool {
    let columns = [("email = ?", email), ("name = ?", name)].compactMap { column, value in
      value.map { (column, SQLValue.text($0)) }
    }
    // Assigns at least one column, so that the statement finds the user even if nothing is given.
    let assignments = columns.isEmpty ? "name = name" : columns.map(\.0).joined(separator: ", ")
    return try await change("UPDATE users SET \(assignments) WHERE id = ?", columns.map(\.1) + [.uuid(id.uuid)], audit)
  }

  /// Sets a new password and ends all sessions, if the hash is still `old`: of two concurrent changes one succeeds.
  package func setPassword(_ id: UserID, hash: String, replacing old: String, audit: AuditRecord) async throws -> Bool {
    try await change(
      "UPDATE users SET password_hash = ?, session_epoch = session_epoch + 1 WHERE id = ? AND password_hash = ?",
      [.text(hash), .uuid(id.uuid), .text(old)], audit)
  }

  /// Stores a new hash of the same password; sessions remain valid.
  package func rehash(_ id: UserID, hash: String, replacing old: String) async throws {
    try await database.write { connection in
      _ = try connection.execute(
        "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?",
        [.text(hash), .uuid(id.uuid), .text(old)])
    }
  }

  /// - Parameter administrator: the acting administrator; nil for programs on the host.
  /// - Returns: false when the user does not exist, or is the last administrator and would lose the role.
  /// - Throws: `AuthorizationRefusal`.
  package func setAdmin(
    _ id: UserID, _ isAdmin: Bool, by administrator: ActingUser? = nil, audit: AuditRecord
  ) async throws -> Bool {
    try await database.write { connection in
      // Locks the rows of all administrators until the end of the transaction: two administrators cannot demote each
      // other at the same time, and a demoted administrator cannot restore their own role.
      try connection.execute("UPDATE users SET is_admin = is_admin WHERE is_admin = ?", [.bool(true)])
      try administrator?.requireAdministrator(connection)
      guard !isAdmin else {
        guard try connection.execute("UPDATE users SET is_admin = ? WHERE id = ?", [.bool(true), .uuid(id.uuid)]) == 1
        else { return false }
        try AuditRepository.insert(audit, connection)
        return true
      }
      let others = try connection.row(
        "SELECT 1 FROM users WHERE is_admin = ? AND id <> ? LIMIT 1", [.bool(true), .uuid(id.uuid)])
      guard others != nil,
        try connection.execute("UPDATE users SET is_admin = ? WHERE id = ?", [.bool(false), .uuid(id.uuid)]) == 1
      else { return false }
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  private func change(_ sql: String, _ parameters: [SQLValue], _ audit: AuditRecord) async throws -> Bool {
    try await database.write { connection in
      guard try connection.execute(sql, parameters) == 1 else { return false }
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  private static let columns = "id, email, name, password_hash, is_admin, created_at, session_epoch"

  private static func record(_ row: SQLRow) throws -> UserRecord {
    UserRecord(
      id: UserID(try row.uuid(0)), email: try row.text(1), name: try row.text(2), passwordHash: try row.text(3),
      isAdmin: try row.bool(4), createdAt: try row.date(5), sessionEpoch: try row.integer(6))
  }
}
