package import Model

/// The result of a change to a team's members.
package enum MembershipChange: Sendable, Equatable {
  case done
  /// The user is not a member of the team.
  case absent
  /// The user is the owner, who can be neither removed nor demoted.
  case isOwner
  case alreadyMember
  /// The team has the maximum number of members, or the user is in the maximum number of teams.
  case full
}

extension TeamRepository {
  /// Earliest joined first.
  package func memberships(of user: UserID) async throws -> [TeamMembership] {
    try await database.query { connection in
      try connection.rows(
        """
        SELECT memberships.role, memberships.is_default, memberships.joined_at, \(Self.columns) FROM memberships \
        JOIN teams ON teams.id = memberships.team_id \
        WHERE memberships.user_id = ? AND teams.deleted_at IS NULL ORDER BY memberships.joined_at, memberships.team_id
        """,
        [.uuid(user.uuid)]
      ).map(Self.membership)
    }
  }

  package func membership(of user: UserID, in team: TeamID) async throws -> TeamMembership? {
    try await database.query { connection in
      try connection.row(
        """
        SELECT memberships.role, memberships.is_default, memberships.joined_at, \(Self.columns) FROM memberships \
        JOIN teams ON teams.id = memberships.team_id \
        WHERE memberships.team_id = ? AND memberships.user_id = ? AND teams.deleted_at IS NULL
        """,
        [.uuid(team.uuid), .uuid(user.uuid)]
      ).map(Self.membership)
    }
  }

  /// Earliest joined first.
  package func members(of team: TeamID, _ page: ListPage) async throws -> [TeamMember] {
    let (sql, parameters) = page.clause(time: "memberships.joined_at", id: "memberships.user_id")
    return try await database.query { connection in
      try connection.rows(
        """
        SELECT users.id, users.email, users.name, memberships.role, memberships.joined_at FROM memberships \
        JOIN users ON users.id = memberships.user_id WHERE memberships.team_id = ?\(sql)
        """,
        [.uuid(team.uuid)] + parameters
      ).map(Self.member)
    }
  }

  package func member(_ user: UserID, of team: TeamID) async throws -> TeamMember? {
    try await database.query { connection in
      try connection.row(
        """
        SELECT users.id, users.email, users.name, memberships.role, memberships.joined_at FROM memberships \
        JOIN users ON users.id = memberships.user_id WHERE memberships.team_id = ? AND memberships.user_id = ?
        """,
        [.uuid(team.uuid), .uuid(user.uuid)]
      ).map(Self.member)
    }
  }

  /// - Parameter actor: the member who adds them, whose role is checked again in the transaction; nil for programs on
  ///   the host.
  /// - Throws: `AuthorizationRefusal`.
  package func addMember(
    _ member: MembershipRecord, maximumMembers: Int, maximumTeams: Int, by actor: ActingUser? = nil, audit: AuditRecord
  ) async throws -> MembershipChange {
    try await database.write { connection in
      guard try Self.lock(member.teamID, connection) else { return .absent }
      try actor?.requireRole(\.managesMembers, in: member.teamID, connection)
      guard try Self.role(of: member.userID, in: member.teamID, connection) == nil else { return .alreadyMember }
      let (team, user) = (SQLValue.uuid(member.teamID.uuid), SQLValue.uuid(member.userID.uuid))
      let members = try connection.row("SELECT COUNT(*) FROM memberships WHERE team_id = ?", [team])?.integer(0) ?? 0
      let teams = try connection.row("SELECT COUNT(*) FROM memberships WHERE user_id = ?", [user])?.integer(0) ?? 0
      guard members < maximumMembers, teams < maximumTeams else { return .full }
      try Self.insert(member, connection)
      try AuditRepository.insert(audit, connection)
      return .done
    }
  }

  /// - Precondition: `role` is not owner; see `transferOwnership`.
  /// - Parameter actor: the member who makes the change, whose role is checked again in the transaction.
  /// - Throws: `AuthorizationRefusal`.
  package func setRole(
    _ user: UserID, of team: TeamID, to role: TeamRole, by actor: ActingUser? = nil, audit: AuditRecord
  ) async throws -> MembershipChange {
    precondition(role != .owner, "use transferOwnership to make a member the owner")
    return try await changeMember(user, of: team, audit) { connection in
      try actor?.requireRole(\.managesMembers, in: team, connection)
      try connection.execute(
        "UPDATE memberships SET role = ? WHERE team_id = ? AND user_id = ?",
        [.text(role.rawValue), .uuid(team.uuid), .uuid(user.uuid)])
    }
  }

  /// Removes a member and the API keys that they created for this team, as they know these keys.
  /// - Parameter actor: the member who makes the change, whose role is checked again in the transaction; every member
  ///   may remove themselves.
  /// - Throws: `AuthorizationRefusal`.
  package func removeMember(
    _ user: UserID, of team: TeamID, by actor: ActingUser? = nil, audit: AuditRecord
  ) async throws -> MembershipChange {
    try await changeMember(user, of: team, audit) { connection in
      if let actor {
        if actor.id == user {
          try actor.requireMembership(in: team, connection)
        } else {
          try actor.requireRole(\.managesMembers, in: team, connection)
        }
      }
      try connection.execute(
        "DELETE FROM memberships WHERE team_id = ? AND user_id = ?", [.uuid(team.uuid), .uuid(user.uuid)])
      try connection.execute(
        "DELETE FROM api_keys WHERE created_by = ? AND team_id = ?", [.uuid(user.uuid), .uuid(team.uuid)])
    }
  }

  /// Makes another member the owner; the previous owner becomes an admin. A team always has exactly one owner.
  /// - Parameter sessionEpoch: the epoch of the owner's session; nil accepts any.
  /// - Throws: `AuthorizationRefusal`, also when `owner` does not own the team.
  package func transferOwnership(
    of team: TeamID, from owner: UserID, to user: UserID, sessionEpoch: Int? = nil, audit: AuditRecord
  ) async throws -> MembershipChange {
    try await database.write { connection in
      guard try Self.lock(team, connection) else { return .absent }
      try ActingUser(id: owner, sessionEpoch: sessionEpoch).requireRole(\.isOwner, in: team, connection)
      guard let role = try Self.role(of: user, in: team, connection) else { return .absent }
      guard role != .owner else { return .isOwner }
      for (id, role) in [(owner, TeamRole.admin), (user, .owner)] {
        try connection.execute(
          "UPDATE memberships SET role = ? WHERE team_id = ? AND user_id = ?",
          [.text(role.rawValue), .uuid(team.uuid), .uuid(id.uuid)])
      }
      try AuditRepository.insert(audit, connection)
      return .done
    }
  }

  private func changeMember(
    _ user: UserID, of team: TeamID, _ audit: AuditRecord,
    _ change: @escaping @Sendable (any SQLConnection) throws -> Void
  ) async throws -> MembershipChange {
    try await database.write { connection in
      guard try Self.lock(team, connection), let role = try Self.role(of: user, in: team, connection) else {
        return .absent
      }
      guard role != .owner else { return .isOwner }
      try change(connection)
      try AuditRepository.insert(audit, connection)
      return .done
    }
  }
}

extension TeamRepository {
  /// Locks the team's row: on every database system, other transactions that lock it wait for the end of this one.
  /// - Returns: whether the team exists.
  static func lock(_ team: TeamID, _ connection: any SQLConnection) throws -> Bool {
    try connection.execute("UPDATE teams SET name = name WHERE id = ? AND deleted_at IS NULL", [.uuid(team.uuid)]) == 1
  }

  static func insert(_ membership: MembershipRecord, _ connection: any SQLConnection) throws {
    try connection.execute(
      "INSERT INTO memberships (team_id, user_id, role, is_default, joined_at) VALUES (?, ?, ?, ?, ?)",
      [
        .uuid(membership.teamID.uuid), .uuid(membership.userID.uuid), .text(membership.role.rawValue),
        .bool(membership.isDefault),
        .timestamp(membership.joinedAt),
      ])
  }

  static func role(_ text: String) throws -> TeamRole {
    guard let role = TeamRole(rawValue: text) else { throw PersistenceError.corruptRow("membership role") }
    return role
  }

  static func role(of user: UserID, in team: TeamID, _ connection: any SQLConnection) throws -> TeamRole? {
    try connection.row(
      "SELECT role FROM memberships WHERE team_id = ? AND user_id = ?", [.uuid(team.uuid), .uuid(user.uuid)]
    )
    .map { try role($0.text(0)) }
  }

  private static func membership(_ row: SQLRow) throws -> TeamMembership {
    TeamMembership(
      team: try record(row, at: 3), role: try role(row.text(0)), isDefault: try row.bool(1), joinedAt: try row.date(2))
  }

  private static func member(_ row: SQLRow) throws -> TeamMember {
    TeamMember(
      user: UserID(try row.uuid(0)), email: try row.text(1), name: try row.text(2), role: try role(row.text(3)),
      joinedAt: try row.date(4))
  }
}
