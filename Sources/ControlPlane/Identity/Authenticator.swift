import Foundation
import Model
import Persistence
import Synchronization

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
/// Nothing is remembered from one call to the next: each costs one read by an indexed column, and a deleted key, a removed member, a
/// changed password or role counts from the next call on. Uses of keys are collected in memory and written together.
package final class Authenticator: Sendable {
  /// Longest header value that is looked at as a key.
  static let maximumKeyBytes = 256

  let keys: APIKeyRepository
  let people: PeopleRepository
  private let tokens: TokenAuthority
  private let limits: RateLimits
  private let surroundings: Surroundings
  private let uses = Mutex([APIKeyID: Date]())

  init(
    keys: APIKeyRepository, people: PeopleRepository, tokens: TokenAuthority, limits: RateLimits, surroundings: Surroundings
  ) {
    self.keys = keys
    self.people = people
    self.tokens = tokens
    self.limits = limits
    self.surroundings = surroundings
  }

  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func principal(_ credentials: PresentedCredentials) async throws -> Principal {
    if let apiKey = credentials.apiKey { return try await principal(apiKey: apiKey) }
    if let token = credentials.bearer ?? credentials.cookie { return try await principal(session: token) }
    throw Self.nothingShown
  }

  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func principal(apiKey header: String?) async throws -> Principal {
    let key = try await key(header)
    return Principal(kind: .apiKey(key.id), teamID: key.teamID)
  }

  /// Somebody who administers the platform: with a session, or with a key that they made. A key may stand where a session's token
  /// does, because that is the header that Prometheus and its like can send.
  /// - Throws: `unauthorized`, `forbidden` with the remedy; `rate_limited`.
  package func administrator(_ credentials: PresentedCredentials) async throws -> Principal {
    var principal: Principal
    if let text = credentials.apiKey ?? credentials.bearer.flatMap({ APIKeySecret($0) == nil ? nil : $0 }) {
      let key = try await key(text)
      principal = Principal(kind: .apiKey(key.id), teamID: key.teamID)
      if let creator = key.createdBy { principal.isAdmin = try await people.user(creator)?.isAdmin ?? false }
    } else {
      principal = try await self.principal(credentials)
    }
    guard principal.isAdmin else {
      throw MartletError(
        .forbidden, "from another machine this is for administrators of the platform, with their session or a key of theirs")
    }
    return principal
  }

  private func key(_ header: String?) async throws -> APIKeyRecord {
    guard let header, !header.isEmpty else { throw Self.nothingShown }
    guard header.utf8.count <= Self.maximumKeyBytes, let secret = APIKeySecret(header),
      let key = try await keys.key(hash: secret.hash)
    else { throw MartletError(.unauthorized, "the API key is not valid; it may have been deleted") }
    try limits.calls.admit(key.id.uuid)
    let now = surroundings.now()
    uses.withLock { $0[key.id] = now }
    return key
  }

  /// The person of a session, and what they may do in its team at this moment.
  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func principal(session token: String) async throws -> Principal {
    let claims = try await tokens.verify(token, as: .user, at: surroundings.now())
    guard let user = UserID(wire: claims.subject), let team = claims.team,
      let standing = try await people.standing(of: user, in: team), standing.sessionEpoch == claims.epoch
    else { throw MartletError(.unauthorized, "the session is over; log in again") }
    try limits.calls.admit(user.uuid)
    return Principal(kind: .user(user), teamID: team, role: standing.role, isAdmin: standing.isAdmin, sessionEpoch: claims.epoch)
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

  private static var nothingShown: MartletError {
    MartletError(.unauthorized, "an API key is needed; send it in the X-API-Key header, or log in and send the session's token")
  }
}
