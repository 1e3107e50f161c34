import Crypto
import Foundation
package import Model

/// The secret from which all token keys of an installation are derived. All control planes of an installation must have
/// the same one.
package struct TokenSecret: Sendable {
  package static let minimumBytes = 32
  package static let maximumBytes = 4_096

  private let bytes: SymmetricKey

  /// - Throws: `invalid_request` for a secret of unsuitable length; `name` is the setting that contained it.
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

  /// A new random secret; for tests, and for a secret that is stored afterwards.
  package static func random() -> TokenSecret {
    TokenSecret(SymmetricKey(size: .bits256))
  }

  /// A new random secret as text for `init(_:name:)`.
  package static func randomText() -> String {
    SymmetricKey(size: .bits256).withUnsafeBytes { Hexadecimal.text(Array($0)) }
  }

  /// Derives the key for one purpose. Keys of different purposes are independent of each other.
  ///
  /// Source: RFC 5869
  func key(for purpose: String) -> SymmetricKey {
    HKDF<SHA256>.deriveKey(
      inputKeyMaterial: bytes, info: Data("martlet \(purpose) token v1".utf8), outputByteCount: 32)
  }
}
