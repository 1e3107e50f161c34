import Concurrency
import Foundation
import Model
package import Persistence

/// What a request shows to say who makes it; the first that is there counts.
package struct PresentedCredentials: Sendable, Equatable {
  /// `X-API-Key`
  package var apiKey: String?
  /// `Authorization: Bearer`
  package var bearer: String?
  /// The session cookie of a browser.
  package var cookie: String?

  package init(apiKey: String? = nil, bearer: String? = nil, cookie: String? = nil) {
    self.apiKey = apiKey
    self.bearer = bearer
    self.cookie = cookie
  }
}

/// Turns what a request shows into a principal (KEY-2, AUTH-3, AUTH-4).
///
/// Each call is one look-up by an indexed column, which the database answers as of now: a deleted key, a removed
/// member, a changed password or role counts from the next call on. Uses of keys are collected in memory and written
/// together.
package final class Authenticator: Sendable {
  /// Longest header value that is looked at as a key.
  static let maximumKeyBytes = 256

  let keys: APIKeyRepository
  let people: PeopleRepository
  private let tokens: TokenAuthority
  private let limits: RateLimits
  private let dependencies: Dependencies
  private let uses = Mutex([APIKeyID: Date]())

  init(
    keys: APIKeyRepository, people: PeopleRepository, tokens: TokenAuthority, limits: RateLimits,
    dependencies: Dependencies
  ) {
    self.keys = keys
    self.people = people
    self.tokens = tokens
    self.limits = limits
    self.dependencies = dependencies
  }

  /// With a version that the database had after the call began.
  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func authenticate(_ credentials: PresentedCredentials) async throws -> Finding<Principal> {
    if let apiKey = credentials.apiKey { return try await key(apiKey).map { Self.principal(of: $0) } }
    if let token = credentials.bearer ?? credentials.cookie { return try await person(token) }
    throw Self.nothingShown
  }

  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func principal(apiKey header: String?) async throws -> Principal {
    Self.principal(of: try await key(header).value)
  }

  private static func principal(of key: APIKeyRecord) -> Principal {
    Principal(kind: .apiKey(key.id), teamID: key.teamID)
  }

  /// Somebody who administers the platform: with a session, or with a key that they made. A key may stand where a
  /// session's token does, because that is the header that Prometheus and its like can send.
  /// - Throws: `unauthorized`, `forbidden` with the remedy; `rate_limited`.
  package func administrator(_ credentials: PresentedCredentials) async throws -> Principal {
    var principal: Principal
    if let text = credentials.apiKey ?? credentials.bearer.flatMap({ APIKeySecret($0) == nil ? nil : $0 }) {
      let key = try await key(text).value
      principal = Self.principal(of: key)
      if let creator = key.createdBy { principal.isAdmin = try await people.user(creator)?.isAdmin ?? false }
    } else {
      principal = try await authenticate(credentials).value
    }
    guard principal.isAdmin else {
      throw MartletError(
        .forbidden,
        "from another machine this is for administrators of the platform, with their session or a key of theirs")
    }
    return principal
  }

  private func key(_ header: String?) async throws -> Finding<APIKeyRecord> {
    guard let header, !header.isEmpty else { throw Self.nothingShown }
    guard header.utf8.count <= Self.maximumKeyBytes, let secret = APIKeySecret(header) else { throw Self.unknownKey }
    let key = try await keys.find(hash: secret.hash).map { key in
      guard let key else { throw Self.unknownKey }
      return key
    }
    try limits.calls.admit(key.value.id.uuid)
    let now = dependencies.now()
    uses.withLock { $0[key.value.id] = now }
    return key
  }

  /// The person of a session, and what they may do in its team at this moment.
  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func principal(session token: String) async throws -> Principal {
    try await person(token).value
  }

  private func person(_ token: String) async throws -> Finding<Principal> {
    let claims = try await tokens.verify(token, as: .user, at: dependencies.now())
    guard let user = UserID(wire: claims.subject), let team = claims.team else { throw Self.sessionIsOver }
    let principal = try await people.findAccess(of: user, in: team).map { access in
      guard let access, access.sessionEpoch == claims.epoch else { throw Self.sessionIsOver }
      return Principal(
        kind: .user(user), teamID: team, role: access.role, isAdmin: access.isAdmin, sessionEpoch: claims.epoch)
    }
    try limits.calls.admit(user.uuid)
    return principal
  }

  /// Writes the uses that were collected.
  func flush() async throws {
    let collected = uses.withLock { uses in
      defer { uses = [:] }
      return uses
    }
    do {
      try await keys.touch(collected)
    } catch {
      // Newer ones stay; keys are bounded in number, so these are too.
      uses.withLock { $0.merge(collected) { newer, _ in newer } }
      throw error
    }
  }

  private static var unknownKey: MartletError {
    MartletError(.unauthorized, "the API key is not valid; it may have been deleted")
  }

  private static var sessionIsOver: MartletError {
    MartletError(.unauthorized, "the session is over; log in again")
  }

  private static var nothingShown: MartletError {
    MartletError(
      .unauthorized, "an API key is needed; send it in the X-API-Key header, or log in and send the session's token")
  }
}
