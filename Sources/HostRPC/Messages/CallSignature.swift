import Crypto
package import Foundation
package import Model

/// Authenticates calls to a host and the host's responses.
///
/// | header | value |
/// |---|---|
/// | `x-martlet-time` | milliseconds since 1970, decimal |
/// | `x-martlet-nonce` | 16 random bytes, hexadecimal; used once |
/// | `x-martlet-installation` | the installation of the caller's database, `inst-{uuid}`; optional |
/// | `x-martlet-mac` | HMAC-SHA256 of `martlet-host-call-v1`, method, target, time, nonce, installation if sent |
/// | `x-martlet-answer` | in responses: HMAC-SHA256 of `martlet-host-answer-v1`, nonce, HTTP status; hexadecimal |
///
/// The target is the path and query of the request line. Bodies are neither signed nor encrypted
/// (docs/threat-model.md).
package struct CallSignature: Sendable, Equatable {
  package static let timeHeader = "x-martlet-time"
  package static let nonceHeader = "x-martlet-nonce"
  package static let installationHeader = "x-martlet-installation"
  package static let macHeader = "x-martlet-mac"
  package static let responseHeader = "x-martlet-answer"

  static let nonceBytes = 16

  package let time: String
  package let nonce: String
  package let installation: String?
  package let mac: String

  /// Unverified header values.
  package init(time: String, nonce: String, installation: String? = nil, mac: String) {
    self.time = time
    self.nonce = nonce
    self.installation = installation
    self.mac = mac
  }

  /// Signs a call.
  package init(
    _ method: String, _ target: String, at date: Date, installation: InstallationID? = nil, with secret: HostSecret
  ) {
    var generator = SystemRandomNumberGenerator()
    let random = (0..<Self.nonceBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    time = String(Int64((date.timeIntervalSince1970 * 1_000).rounded()))
    nonce = Hexadecimal.text(random)
    self.installation = installation?.wire
    let code = HMAC<SHA256>.authenticationCode(
      for: Self.message(method, target, time: time, nonce: nonce, self.installation), using: secret.key)
    mac = Hexadecimal.text(code)
  }

  /// Whether the call was signed with `secret`. Compares in constant time.
  func isSigned(_ method: String, _ target: String, with secret: HostSecret) -> Bool {
    guard let code = Hexadecimal.bytes(mac) else { return false }
    return HMAC<SHA256>.isValidAuthenticationCode(
      code, authenticating: Self.message(method, target, time: time, nonce: nonce, installation), using: secret.key)
  }

  private static func message(
    _ method: String, _ target: String, time: String, nonce: String, _ installation: String?
  ) -> Data {
    Data("martlet-host-call-v1\n\(method)\n\(target)\n\(time)\n\(nonce)\(installation.map { "\n\($0)" } ?? "")".utf8)
  }

  // MARK: - Responses

  /// The value of `responseHeader` in the response to this call.
  package func responseMAC(status: Int, with secret: HostSecret) -> String {
    Hexadecimal.text(HMAC<SHA256>.authenticationCode(for: responseMessage(status), using: secret.key))
  }

  /// Whether a response to this call was signed with `secret`. Compares in constant time.
  package func isValidResponse(status: Int, mac: String?, with secret: HostSecret) -> Bool {
    guard let code = mac.flatMap({ Hexadecimal.bytes($0) }) else { return false }
    return HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: responseMessage(status), using: secret.key)
  }

  private func responseMessage(_ status: Int) -> Data {
    Data("martlet-host-answer-v1\n\(nonce)\n\(status)".utf8)
  }
}
