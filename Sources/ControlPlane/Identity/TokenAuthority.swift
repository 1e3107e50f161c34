import Crypto
package import Foundation
import JWTKit
package import Model

/// The purpose of a token. Each kind has its own key, type and audience, so that a token of one kind is not accepted as
/// another.
package enum TokenKind: String, Sendable, CaseIterable {
  /// A user's session.
  case user
  /// A registered host.
  case host
  /// A call from one process of the installation to another.
  case `internal`

  /// The header's `typ`. Source: RFC 8725 section 3.11
  var type: String { "martlet-\(rawValue)+jwt" }
  var audience: String { "martlet-\(rawValue)" }
}

/// The content of a valid token.
package struct TokenClaims: Sendable, Equatable {
  /// Wire id of the user or host.
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

/// Issues and verifies tokens: JWT with HMAC-SHA-256 only.
///
/// The header does not select how a token is verified: it must equal the header that this type writes, or the token is
/// refused before its signature is checked. This excludes `none`, algorithm confusion, embedded keys (`jwk`, `x5c`,
/// `jku`, `kid`) and critical extensions.
///
/// Source: RFC 7519, RFC 8725
package struct TokenAuthority: Sendable {
  static let issuer = "martlet"
  static let algorithm = "HS256"
  package static let maximumBytes = 2_048
  /// The permitted clock difference between two control planes.
  static let clockLeeway: TimeInterval = 60

  private let secret: TokenSecret

  package init(secret: TokenSecret) {
    self.secret = secret
  }

  package func issue(_ kind: TokenKind, _ claims: TokenClaims, at now: Date) async throws -> String {
    let payload = TokenPayload(
      iss: Self.issuer, aud: kind.audience, sub: claims.subject, team: claims.team?.wire, epoch: claims.epoch,
      iat: Int64(now.timeIntervalSince1970), exp: Int64(claims.expiresAt.timeIntervalSince1970),
      jti: UUID().uuidString.lowercased())
    return try await keys(kind).sign(payload, header: ["typ": .string(kind.type)])
  }

  /// - Throws: `unauthorized` for a token that this installation has not signed as this kind, or that has expired.
  package func verify(_ token: String, as kind: TokenKind, at now: Date) async throws(MartletError) -> TokenClaims {
    guard Self.isWellFormed(token, kind), let payload = try? await keys(kind).verify(token, as: TokenPayload.self)
    else {
      throw Self.refusal
    }
    guard payload.iss == Self.issuer, payload.aud == kind.audience else { throw Self.refusal }
    let time = now.timeIntervalSince1970
    guard Double(payload.iat) <= time + Self.clockLeeway else { throw Self.refusal }
    guard time < Double(payload.exp) else { throw MartletError(.unauthorized, "the session is over; log in again") }
    var team: TeamID?
    if let text = payload.team {
      team = TeamID(wire: text)
      guard team != nil else { throw Self.refusal }
    }
    return TokenClaims(
      subject: payload.sub, team: team, epoch: payload.epoch,
      expiresAt: Date(timeIntervalSince1970: Double(payload.exp)))
  }

  private func keys(_ kind: TokenKind) async -> JWTKeyCollection {
    await JWTKeyCollection().add(hmac: HMACKey(key: secret.key(for: kind)), digestAlgorithm: .sha256)
  }

  private static var refusal: MartletError {
    MartletError(.unauthorized, "the token is not valid here; log in again")
  }

  /// Whether the token consists of three canonical base64url parts, the first of which is exactly our header.
  private static func isWellFormed(_ token: String, _ kind: TokenKind) -> Bool {
    guard token.utf8.count <= maximumBytes else { return false }
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3 else { return false }
    let decoded = parts.compactMap(Base64URL.decode)
    guard decoded.count == 3, decoded[2].count == SHA256.byteCount,
      let header = try? JSONDecoder().decode([String: String].self, from: decoded[0])
    else { return false }
    return header == ["alg": algorithm, "typ": kind.type]
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

/// Base64url encoding without padding. Source: RFC 4648 section 5
enum Base64URL {
  /// Nil for any text but the canonical encoding.
  static func decode(_ text: some StringProtocol) -> Data? {
    guard let data = Data(base64Encoded: padded(text)), encode(data) == text else { return nil }
    return data
  }

  static func encode(_ data: Data) -> String {
    let text = data.base64EncodedString().map { character -> Character in
      switch character {
      case "+": "-"
      case "/": "_"
      default: character
      }
    }
    return String(text.prefix { $0 != "=" })
  }

  private static func padded(_ text: some StringProtocol) -> String {
    let standard = text.map { character -> Character in
      switch character {
      case "-": "+"
      case "_": "/"
      default: character
      }
    }
    return String(standard) + String(repeating: "=", count: (4 - standard.count % 4) % 4)
  }
}
