import Foundation
import Model
import Persistence
import Synchronization

/// Turns the `X-API-Key` header into a principal (KEY-2).
///
/// A key that the database confirmed is trusted for `trustDuration`; deleting one through this server forgets it at once. Unknown
/// keys are not remembered, so that a new key works at once and strangers cannot fill the memory. Uses are collected in memory and
/// written together: a read costs no write.
package final class Authenticator: Sendable {
  /// How long another server's deletion of a key may go unnoticed.
  package static let trustDuration: Duration = .seconds(2)
  /// Bound on remembered keys; beyond it all are forgotten, which costs each one query.
  static let maximumTrusted = 10_000
  /// Longest header value that is looked at.
  static let maximumHeaderBytes = 256

  private struct State {
    var trusted: [[UInt8]: (principal: Principal, key: APIKeyID, until: ContinuousClock.Instant)] = [:]
    var uses: [APIKeyID: Date] = [:]
  }

  private let keys: APIKeyRepository
  private let surroundings: Surroundings
  private let state = Mutex(State())

  init(keys: APIKeyRepository, surroundings: Surroundings) {
    self.keys = keys
    self.surroundings = surroundings
  }

  /// - Throws: `unauthorized` with the remedy.
  package func principal(apiKey header: String?) async throws -> Principal {
    guard let header, !header.isEmpty else {
      throw MartletError(.unauthorized, "an API key is needed; send it in the X-API-Key header")
    }
    guard header.utf8.count <= Self.maximumHeaderBytes, let secret = APIKeySecret(header) else { throw Self.refusal }
    let hash = secret.hash
    if let principal = trusted(hash) { return principal }
    guard let key = try await keys.key(hash: hash) else { throw Self.refusal }
    let principal = Principal(kind: .apiKey(key.id), teamID: key.teamID)
    trust(principal, key: key.id, hash: hash)
    return principal
  }

  /// Forgets a key that was deleted.
  func forget(_ id: APIKeyID) {
    state.withLock { state in
      state.trusted = state.trusted.filter { $0.value.key != id }
      state.uses[id] = nil
    }
  }

  /// Writes the uses that were collected.
  func flush() async throws {
    let uses = state.withLock { state in
      defer { state.uses = [:] }
      return state.uses
    }
    try await keys.touch(uses)
  }

  private static var refusal: MartletError {
    MartletError(.unauthorized, "the API key is not valid; it may have been deleted")
  }

  private func trusted(_ hash: [UInt8]) -> Principal? {
    let now = surroundings.now()
    return state.withLock { state in
      guard let entry = state.trusted[hash], entry.until > .now else { return nil }
      state.uses[entry.key] = now
      return entry.principal
    }
  }

  private func trust(_ principal: Principal, key: APIKeyID, hash: [UInt8]) {
    let now = surroundings.now()
    state.withLock { state in
      if state.trusted.count >= Self.maximumTrusted { state.trusted = [:] }
      state.trusted[hash] = (principal, key, .now + Self.trustDuration)
      state.uses[key] = now
    }
  }
}
