import Crypto
package import Foundation
import JWTKit
package import Model

/// The content of a valid token.
package struct TokenClaims: Sendable, Equatable {
  /// Wire id of the user.
  package var subject: String
  package var team: TeamID?
  /// The user's session epoch; tokens with an older epoch are not valid.
  package var epoch: Int
  package var expiresAt: Date

  package init(subject: String, team: TeamID? = nil, epoch: Int = 0, expiresAt: Date) {
    self.subject = subject
    self.team = team
    self.epoch = epoch
    self.expiresAt = expiresAt
  }
}

/// Issues and verifies session tokens of users: JWT with HMAC-SHA-256 only.
///
/// The header does not select how a token is verified: it must equal the header that this type writes, or the token is
/// refused before its signature is checked. This excludes `none`, algorithm confusion, embedded keys (`jwk`, `x5c`,
/// `jku`, `kid`) and critical extensions.
///
/// Source: RFC 7519, RFC 8725
package struct TokenAuthority: Sendable {
  static let issuer = "martlet"
  static let algorithm = "HS256"
  /// The header's `typ`. Source: RFC 8725 section 3.11
  static let type = "martlet-user+jwt"
  static let audience = "martlet-user"
  /// Selects the key; see `TokenSecret.key(for:)`.
  static let keyPurpose = "user"
  package static let maximumBytes = 2_048
  /// The permitted clock difference between two control planes.
  static let clockLeeway: TimeInterval = 60

  private let secret: TokenSecret

  package init(secret: TokenSecret) {
    self.secret = secret
  }

  package func issue(_ claims: TokenClaims, at now: Date) async throws -> String {
    let payload = TokenPayload(
      iss: Self.issuer, aud: Self.audience, sub: claims.subject, team: claims.team?.wire, epoch: claims.epoch,
      iat: Int64(now.timeIntervalSince1970), exp: Int64(claims.expiresAt.timeIntervalSince1970),
      jti: UUID().uuidString.lowercased())
    return try await keys().sign(payload, header: ["typ": .string(Self.type)])
  }

  /// - Throws: `unauthorized` for a token that this installation has not signed, or that has expired.
  package func verify(_ token: String, at now: Date) async throws(MartletError) -> TokenClaims {
    guard Self.isWellFormed(token), let payload = try? await keys().verify(token, as: TokenPayload.self)
    else {
      throw Self.invalidToken
    }
    guard payload.iss == Self.issuer, payload.aud == Self.audience else { throw Self.invalidToken }
    let time = now.timeIntervalSince1970
    guard Double(payload.iat) <= time + Self.clockLeeway else { throw Self.invalidToken }
    guard time < Double(payload.exp) else { throw MartletError(.unauthorized, "the session has ended; log in again") }
    var team: TeamID?
    if let text = payload.team {
      team = TeamID(wire: text)
      guard team != nil else { throw Self.invalidToken }
    }
    return TokenClaims(
      subject: payload.sub, team: team, epoch: payload.epoch,
      expiresAt: Date(timeIntervalSince1970: Double(payload.exp)))
  }

  private func keys() async -> JWTKeyCollection {
    await JWTKeyCollection().add(hmac: HMACKey(key: secret.key(for: Self.keyPurpose)), digestAlgorithm: .sha256)
  }

  private static var invalidToken: MartletError {
    MartletError(.unauthorized, "the token is not valid here; log in again")
  }

  /// Whether the token consists of three canonical base64url parts, the first of which is exactly our header.
  private static func isWellFormed(_ token: String) -> Bool {
    guard token.utf8.count <= maximumBytes else { return false }
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3 else { return false }
    let decoded = parts.compactMap(Base64URL.decode)
    guard decoded.count == 3, decoded[2].count == SHA256.byteCount,
      let header = try? JSONDecoder().decode([String: String].self, from: decoded[0])
    else { return false }
    return header == ["alg": algorithm, "typ": type]
  }
}

private struct TokenPayload: JWTPayload {
  var iss: String
  var aud: String
  var sub: String
  var team: String?
  var epoch: Int
  var iat: Int64
  var exp: Int64
  var jti: String

  /// Does nothing: `TokenAuthority.verify` checks the claims, as it knows the time.
  func verify(using algorithm: some JWTAlgorithm) {}
}
