/// Response of `POST /v1/auth/login`.
package struct SessionResource: Codable, Sendable, Equatable {
  package var token: String
  package var userID: String
  package var teamID: String
  package var email: String
  package var name: String
  package var expiresAt: String

  enum CodingKeys: String, CodingKey {
    case token, email, name
    case userID = "user_id"
    case teamID = "team_id"
    case expiresAt = "expires_at"
  }
}

/// A row of `GET /v1/teams`.
package struct TeamResource: Codable, Sendable, Equatable {
  package var id: String
  package var name: String
  package var role: String
  package var isDefault: Bool?
  package var createdAt: String?

  enum CodingKeys: String, CodingKey {
    case id, name, role
    case isDefault = "is_default"
    case createdAt = "created_at"
  }
}

/// A row of `GET /v1/teams/{id}/members`.
package struct MemberResource: Codable, Sendable, Equatable {
  package var userID: String
  package var email: String
  package var name: String
  package var role: String
  package var joinedAt: String?

  enum CodingKeys: String, CodingKey {
    case email, name, role
    case userID = "user_id"
    case joinedAt = "joined_at"
  }
}

/// A row of `GET /v1/api-keys`; only the response to the creation contains the key itself.
package struct KeyResource: Codable, Sendable, Equatable {
  package var id: String
  package var teamID: String?
  package var name: String
  package var keyPrefix: String?
  package var createdBy: String?
  package var createdAt: String?
  package var lastUsed: String?
  package var key: String?

  enum CodingKeys: String, CodingKey {
    case id, name, key
    case teamID = "team_id"
    case keyPrefix = "key_prefix"
    case createdBy = "created_by"
    case createdAt = "created_at"
    case lastUsed = "last_used"
  }
}

/// A row of `GET /v1/admin/users`.
package struct UserResource: Codable, Sendable, Equatable {
  package var userID: String
  package var email: String
  package var name: String
  package var isAdmin: Bool
  package var createdAt: String?
  package var teamID: String?

  package init(
    userID: String, email: String, name: String, isAdmin: Bool, createdAt: String? = nil, teamID: String? = nil
  ) {
    self.userID = userID
    self.email = email
    self.name = name
    self.isAdmin = isAdmin
    self.createdAt = createdAt
    self.teamID = teamID
  }

  enum CodingKeys: String, CodingKey {
    case email, name
    case userID = "user_id"
    case isAdmin = "is_admin"
    case createdAt = "created_at"
    case teamID = "team_id"
  }
}

/// Body of `POST /v1/admin/users`.
package struct NewUser: Encodable, Sendable, Equatable {
  package var email: String
  package var password: String
  package var name: String
  package var isAdmin: Bool

  package init(email: String, password: String, name: String, isAdmin: Bool) {
    self.email = email
    self.password = password
    self.name = name
    self.isAdmin = isAdmin
  }

  enum CodingKeys: String, CodingKey {
    case email, password, name
    case isAdmin = "is_admin"
  }
}
