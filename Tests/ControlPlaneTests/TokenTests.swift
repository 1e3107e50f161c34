import Crypto
import Foundation
import Model
import Testing

@testable import ControlPlane

/// The attacks of RFC 8725, and a few more.
@Suite struct TokenTests {
  private static let now = Date(timeIntervalSince1970: 1_700_000_000)
  private let secret = TokenSecret.random()
  private var authority: TokenAuthority { TokenAuthority(secret: secret) }
  private let team = TeamID()

  private func claims(expiresIn seconds: TimeInterval = 60) -> TokenClaims {
    TokenClaims(subject: "usr-x", team: team, epoch: 3, expiresAt: Self.now.addingTimeInterval(seconds))
  }

  /// A token with an arbitrary header and payload, signed with an arbitrary key.
  private func forge(_ header: String, _ payload: String, key: SymmetricKey? = nil) -> String {
    let text = "\(Base64URL.encode(Data(header.utf8))).\(Base64URL.encode(Data(payload.utf8)))"
    guard let key else { return text + "." }
    let code = HMAC<SHA256>.authenticationCode(for: Data(text.utf8), using: key)
    return "\(text).\(Base64URL.encode(Data(code)))"
  }

  private func payload(_ changes: [String: any Sendable] = [:]) throws -> String {
    var payload: [String: Any] = [
      "iss": "martlet", "aud": "martlet-user", "sub": "usr-x", "team": team.wire, "epoch": 3, "iat": 1_700_000_000,
      "exp": 1_700_000_060, "jti": "1",
    ]
    for (name, value) in changes {
      if value is Absent { payload.removeValue(forKey: name) } else { payload[name] = value }
    }
    return String(decoding: try JSONSerialization.data(withJSONObject: payload), as: UTF8.self)
  }

  private func isRefused(_ token: String, at time: Date = now) async -> Bool {
    await code { _ = try await authority.verify(token, at: time) } == .unauthorized
  }

  /// Marks a claim to be omitted.
  private struct Absent: Sendable {}

  private static let header = #"{"alg":"HS256","typ":"martlet-user+jwt"}"#

  @Test("a token returns its claims until it expires")
  func roundTrip() async throws {
    let token = try await authority.issue(claims(), at: Self.now)
    #expect(try await authority.verify(token, at: Self.now) == claims())
    #expect(try await authority.verify(token, at: Self.now.addingTimeInterval(59)) == claims())
    #expect(await isRefused(token, at: Self.now.addingTimeInterval(60)))
    #expect(await isRefused(token, at: Self.now.addingTimeInterval(-3_600)))
  }

  @Test("the tests' forger creates valid tokens if it has the key")
  func forger() async throws {
    let token = forge(Self.header, try payload(), key: secret.key(for: TokenAuthority.keyPurpose))
    #expect(try await authority.verify(token, at: Self.now) == claims())
  }

  @Test("a token that was signed with the key of another purpose is refused")
  func otherPurpose() async throws {
    for purpose in ["host", "internal", "", "User"] {
      #expect(await isRefused(forge(Self.header, try payload(), key: secret.key(for: purpose))), "\(purpose)")
    }
  }

  @Test("another installation's token is refused")
  func otherSecret() async throws {
    let token = try await TokenAuthority(secret: .random()).issue(claims(), at: Self.now)
    #expect(await isRefused(token))
  }

  @Test(
    "a header other than ours is refused, even with a valid signature",
    arguments: [
      #"{"alg":"none","typ":"martlet-user+jwt"}"#, #"{"alg":"None","typ":"martlet-user+jwt"}"#,
      #"{"alg":"","typ":"martlet-user+jwt"}"#,
      #"{"typ":"martlet-user+jwt"}"#, #"{"alg":"HS512","typ":"martlet-user+jwt"}"#,
      #"{"alg":"RS256","typ":"martlet-user+jwt"}"#,
      #"{"alg":"ES256","typ":"martlet-user+jwt"}"#, #"{"alg":"hs256","typ":"martlet-user+jwt"}"#, #"{"alg":"HS256"}"#,
      #"{"alg":"HS256","typ":"JWT"}"#, #"{"alg":"HS256","typ":"martlet-host+jwt"}"#,
      #"{"alg":"HS256","typ":"martlet-user+jwt","kid":"../x"}"#,
      #"{"alg":"HS256","typ":"martlet-user+jwt","crit":["exp"]}"#,
      #"{"alg":"HS256","typ":"martlet-user+jwt","jku":"http://evil"}"#,
      #"{"alg":"HS256","typ":"martlet-user+jwt","jwk":{"kty":"oct","k":"AA"}}"#,
      #"{"alg":"HS256","typ":"martlet-user+jwt","x5c":["AA"]}"#,
      "[]", "{}", "null", "",
    ])
  func headers(_ header: String) async throws {
    #expect(await isRefused(forge(header, try payload(), key: secret.key(for: TokenAuthority.keyPurpose))))
    #expect(await isRefused(forge(header, try payload())))
  }

  @Test("claims with another issuer, audience or time are refused")
  func badClaims() async throws {
    let bad: [[String: any Sendable]] = [
      ["iss": "evil"], ["iss": Absent()], ["aud": "martlet-host"], ["aud": ["martlet-user"] as [String]],
      ["aud": Absent()],
      ["exp": Absent()],
      ["exp": 1_699_999_999], ["exp": "never"], ["iat": 1_700_003_600], ["iat": Absent()], ["sub": Absent()],
      ["team": "team-x"],
      ["epoch": Absent()], ["exp": 1e300],
    ]
    for changes in bad {
      let text = try payload(changes)
      #expect(await isRefused(forge(Self.header, text, key: secret.key(for: TokenAuthority.keyPurpose))), "\(text)")
    }
  }

  @Test("changing any character invalidates a token")
  func tampered() async throws {
    let token = try await authority.issue(claims(), at: Self.now)
    for (offset, byte) in token.utf8.enumerated() {
      var bytes = Array(token.utf8)
      bytes[offset] = byte == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
      #expect(await isRefused(String(decoding: bytes, as: UTF8.self)), "at \(offset)")
    }
  }

  @Test("a text that is not a token is refused")
  func malformed() async throws {
    let token = try await authority.issue(claims(), at: Self.now)
    let parts = token.split(separator: ".").map(String.init)
    let bad = [
      "", ".", "..", "...", "a.b.c", token + "=", token + ".x", " " + token, token + "\n", parts[0] + "." + parts[1],
      parts[0] + "." + parts[1] + ".", "." + parts[1] + "." + parts[2], String(repeating: "a", count: 1 << 20),
      String(repeating: ".", count: 2_000), "\u{0}.\u{0}.\u{0}",
    ]
    for text in bad { #expect(await isRefused(text), "\(text.prefix(80))") }
  }

  @Test("a short secret is refused with the remedy; the same text yields the same secret")
  func secrets() async throws {
    #expect(throws: MartletError.self) { try TokenSecret(String(repeating: "x", count: 31), name: "S") }
    let text = TokenSecret.randomText()
    let token = try await TokenAuthority(secret: TokenSecret(text, name: "S")).issue(claims(), at: Self.now)
    #expect(
      try await TokenAuthority(secret: TokenSecret(text, name: "S")).verify(token, at: Self.now) == claims())
  }
}
