import Concurrency
import Foundation
import Model
package import Persistence

/// The credentials that a request carries; the first one that is present is used.
package struct PresentedCredentials: Sendable, Equatable {
  /// `X-API-Key`
  package var apiKey: String?
  /// `Authorization: Bearer`
  package var bearer: String?
  /// The session cookie of a browser.
  package var cookie: String?
  /// Address of the client; nil when it is not known.
  package var source: String?

  package init(apiKey: String? = nil, bearer: String? = nil, cookie: String? = nil, source: String? = nil) {
    self.apiKey = apiKey
    self.bearer = bearer
    self.cookie = cookie
    self.source = source
  }
}

/// Authenticates requests: maps credentials to a principal.
///
/// Each call is one look-up by an indexed column with the database's present state, so that a deleted key, a removed
/// member and a changed password or role take effect from the next call on. Uses of keys are collected in memory and
/// written together.
///
/// Rate limits are applied before the look-up. A key that was valid at its last use, and a session, have limits of
/// their own. The first use of a key counts against the client's address until the database confirms the key, so
/// invalid keys of one address reach the database only at the rate `RateLimits.Rates.unknownKeys`.
package final class Authenticator: Sendable {
  /// A longer header value is refused without a look-up.
  static let maximumKeyBytes = 256

  let keys: APIKeyRepository
  let people: PeopleRepository
  private let tokens: TokenAuthority
  private let limits: RateLimits
  private let dependencies: Dependencies
  private let uses = Mutex([APIKeyID: Date]())
  /// Keys that were valid when they were last looked up, by their hash.
  private let knownKeys = Mutex([[UInt8]: APIKeyID]())
  private static let maximumKnownKeys = 10_000

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

  /// Authenticates a request. The result carries a database version that is not older than the call.
  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func authenticate(_ credentials: PresentedCredentials) async throws -> LookUpResult<Principal> {
    if let apiKey = credentials.apiKey {
      return try await key(apiKey, from: credentials.source).map { Self.principal(of: $0) }
    }
    if let token = credentials.bearer ?? credentials.cookie { return try await userPrincipal(token) }
    throw Self.missingCredentials
  }

  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func principal(apiKey header: String?, source: String? = nil) async throws -> Principal {
    Self.principal(of: try await key(header, from: source).value)
  }

  private static func principal(of key: APIKeyRecord) -> Principal {
    Principal(kind: .apiKey(key.id), teamID: key.teamID)
  }

  /// Authenticates an administrator of the platform, by a session or by an API key that an administrator created. The
  /// key may also be sent as a bearer token, because that is the header that Prometheus and similar programs can send.
  /// - Throws: `unauthorized`, `forbidden` with the remedy; `rate_limited`.
  package func administrator(_ credentials: PresentedCredentials) async throws -> Principal {
    var principal: Principal
    if let text = credentials.apiKey ?? credentials.bearer.flatMap({ APIKeySecret($0) == nil ? nil : $0 }) {
      let key = try await key(text, from: credentials.source).value
      principal = Self.principal(of: key)
      if let creator = key.createdBy { principal.isAdmin = try await people.user(creator)?.isAdmin ?? false }
    } else {
      principal = try await authenticate(credentials).value
    }
    guard principal.isAdmin else {
      throw MartletError(
        .forbidden,
        "from another machine only administrators of the platform may do this, "
          + "with their session or an API key of theirs")
    }
    return principal
  }

  private func key(_ header: String?, from source: String?) async throws -> LookUpResult<APIKeyRecord> {
    guard let header, !header.isEmpty else { throw Self.missingCredentials }
    // What does not have the form of a key is refused without a look-up.
    guard header.utf8.count <= Self.maximumKeyBytes, let secret = APIKeySecret(header) else { throw Self.unknownKey }
    let key = try await lookUp(secret.hash, from: source)
    let now = dependencies.now()
    uses.withLock { $0[key.value.id] = now }
    return key
  }

  private func lookUp(_ hash: [UInt8], from source: String?) async throws -> LookUpResult<APIKeyRecord> {
    if let known = knownKeys.withLock({ $0[hash] }) {
      try limits.calls.admit(.key(known))
      return try await find(hash)
    }
    let address = RateLimits.key(forAddress: source)
    try limits.unknownKeys.admit(address)
    let key: LookUpResult<APIKeyRecord>
    do {
      key = try await find(hash)
    } catch {
      // A database that does not answer says nothing about the key.
      if MartletError.wrapping(error).code != .unauthorized { limits.unknownKeys.giveBack(address) }
      throw error
    }
    limits.unknownKeys.giveBack(address)
    knownKeys.withLock { keys in
      if keys.count >= Self.maximumKnownKeys { keys = [:] }
      keys[hash] = key.value.id
    }
    try limits.calls.admit(.key(key.value.id))
    return key
  }

  /// - Throws: `unauthorized` for a key that does not exist.
  private func find(_ hash: [UInt8]) async throws -> LookUpResult<APIKeyRecord> {
    try await keys.find(hash: hash).map { key in
      guard let key else {
        knownKeys.withLock { $0[hash] = nil }
        throw Self.unknownKey
      }
      return key
    }
  }

  /// The user of a session, with their present rights in the session's team.
  /// - Throws: `unauthorized` with the remedy; `rate_limited`.
  package func principal(session token: String) async throws -> Principal {
    try await userPrincipal(token).value
  }

  private func userPrincipal(_ token: String) async throws -> LookUpResult<Principal> {
    let claims = try await tokens.verify(token, at: dependencies.now())
    guard let user = UserID(wire: claims.subject), let team = claims.team else { throw Self.sessionEnded }
    // The epoch is part of the limit's key: requests with an ended session do not use up the present one's calls.
    try limits.calls.admit(.session(user, epoch: claims.epoch))
    let principal = try await people.findAccess(of: user, in: team).map { access in
      guard let access, access.sessionEpoch == claims.epoch else { throw Self.sessionEnded }
      return Principal(
        kind: .user(user), teamID: team, role: access.role, isAdmin: access.isAdmin, sessionEpoch: claims.epoch)
    }
    return principal
  }

  /// Writes the collected uses of keys to the database.
  func flush() async throws {
    let collected = uses.withLock { uses in
      defer { uses = [:] }
      return uses
    }
    do {
      try await keys.touch(collected)
    } catch {
      // Keeps the newer ones. Their number is bounded, as the number of keys is.
      uses.withLock { $0.merge(collected) { newer, _ in newer } }
      throw error
    }
  }

  private static var unknownKey: MartletError {
    MartletError(.unauthorized, "the API key is not valid; it may have been deleted")
  }

  private static var sessionEnded: MartletError {
    MartletError(.unauthorized, "the session has ended; log in again")
  }

  private static var missingCredentials: MartletError {
    MartletError(
      .unauthorized, "an API key is needed; send it in the X-API-Key header, or log in and send the session's token")
  }
}
