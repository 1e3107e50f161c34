package import Model

/// Teams, users and who belongs where.
package struct PeopleRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  package func hasUsers() async throws -> Bool {
    try await database.query { try $0.row("SELECT 1 FROM users LIMIT 1", []) != nil }
  }

  package func team(_ id: TeamID) async throws -> TeamRecord? {
    try await database.query { connection in
      try connection.row("SELECT id, name, created_at FROM teams WHERE id = ?", [.uuid(id.uuid)]).map { row in
        TeamRecord(id: TeamID(try row.uuid(0)), name: try row.text(1), createdAt: try row.date(2))
      }
    }
  }

  /// - Parameter email: trimmed and lower-cased.
  package func user(email: String) async throws -> UserRecord? {
    try await database.query { connection in
      try connection.row(
        "SELECT id, email, name, password_hash, is_admin, created_at FROM users WHERE email = ?", [.text(email)]
      ).map { row in
        UserRecord(
          id: UserID(try row.uuid(0)), email: try row.text(1), name: try row.text(2), passwordHash: try row.text(3),
          isAdmin: try row.bool(4), createdAt: try row.date(5))
      }
    }
  }

  /// Earliest joined first.
  package func memberships(of user: UserID) async throws -> [MembershipRecord] {
    try await database.query { connection in
      try connection.rows(
        "SELECT team_id, user_id, role, is_default, joined_at FROM memberships WHERE user_id = ? ORDER BY joined_at, team_id",
        [.uuid(user.uuid)]
      ).map { row in
        guard let role = TeamRole(rawValue: try row.text(2)) else { throw PersistenceError.corruptRow("membership role") }
        return MembershipRecord(
          teamID: TeamID(try row.uuid(0)), userID: UserID(try row.uuid(1)), role: role, isDefault: try row.bool(3),
          joinedAt: try row.date(4))
      }
    }
  }

  /// Makes the platform team if it is missing.
  package func ensureTeam(_ team: TeamRecord) async throws {
    try await database.write { connection in
      _ = try connection.execute(
        "INSERT INTO teams (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
        [.uuid(team.id.uuid), .text(team.name), .timestamp(team.createdAt)])
    }
  }

  /// Creates a user, a team of their own, the membership and a key in one transaction (AUTH-1, AUTH-7).
  /// - Throws: `PersistenceError.duplicate` when the e-mail is taken.
  package func insert(
    user: UserRecord, team: TeamRecord, membership: MembershipRecord, key: APIKeyRecord?, audit: [AuditRecord],
    onlyIfNoUsers: Bool = false
  ) async throws -> Bool {
    try await database.write { connection in
      if onlyIfNoUsers, try connection.row("SELECT 1 FROM users LIMIT 1", []) != nil { return false }
      try connection.execute(
        "INSERT INTO teams (id, name, created_at) VALUES (?, ?, ?)",
        [.uuid(team.id.uuid), .text(team.name), .timestamp(team.createdAt)])
      try connection.execute(
        "INSERT INTO users (id, email, name, password_hash, is_admin, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        [
          .uuid(user.id.uuid), .text(user.email), .text(user.name), .text(user.passwordHash), .bool(user.isAdmin),
          .timestamp(user.createdAt),
        ])
      try connection.execute(
        "INSERT INTO memberships (team_id, user_id, role, is_default, joined_at) VALUES (?, ?, ?, ?, ?)",
        [
          .uuid(membership.teamID.uuid), .uuid(membership.userID.uuid), .text(membership.role.rawValue), .bool(membership.isDefault),
          .timestamp(membership.joinedAt),
        ])
      if let key { try APIKeyRepository.insert(key, connection) }
      for record in audit { try AuditRepository.insert(record, connection) }
      return true
    }
  }
}
