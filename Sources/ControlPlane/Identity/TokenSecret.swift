import Crypto
import Foundation
package import Model

/// The secret that all token keys of an installation come from. Every control plane of the installation needs the same
/// one.
package struct TokenSecret: Sendable {
  package static let minimumBytes = 32
  package static let maximumBytes = 4_096

  private let bytes: SymmetricKey

  /// - Throws: `invalid_request` for a secret that is too short to be one (AUTH-2); `name` says where it came from.
  package init(_ text: String, name: String) throws(MartletError) {
    guard (Self.minimumBytes...Self.maximumBytes).contains(text.utf8.count) else {
      throw MartletError(
        .invalidRequest,
        "\(name) must have at least \(Self.minimumBytes) bytes; `openssl rand -hex 32` makes a good one")
    }
    bytes = SymmetricKey(data: Data(text.utf8))
  }

  private init(_ key: SymmetricKey) {
    bytes = key
  }

  /// A secret that nobody else knows; for tests, and as the source of one that is written down.
  package static func random() -> TokenSecret {
    TokenSecret(SymmetricKey(size: .bits256))
  }

  /// Text from which `init` makes the same secret again.
  package static func randomText() -> String {
    SymmetricKey(size: .bits256).withUnsafeBytes { APIKeySecret.hex(Array($0)) }
  }

  /// The key of one kind of token; none tells anything about another.
  ///
  /// Source: RFC 5869
  func key(for kind: TokenKind) -> SymmetricKey {
    HKDF<SHA256>.deriveKey(
      inputKeyMaterial: bytes, info: Data("martlet \(kind.rawValue) token v1".utf8), outputByteCount: 32)
  }
}
