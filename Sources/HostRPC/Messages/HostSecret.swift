import Crypto

/// The secret that a host shares with the control planes that may call it: 256 random bits.
///
/// A host creates a new secret at each start, so that earlier recorded traffic is useless to an attacker.
package struct HostSecret: Sendable, Equatable, CustomStringConvertible {
  package static let byteCount = 32

  package let bytes: [UInt8]

  /// - Returns: nil unless `bytes` has 32 bytes.
  package init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    self.bytes = bytes
  }

  private init(random generator: inout some RandomNumberGenerator) {
    bytes = (0..<Self.byteCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
  }

  /// A new secret from the system's cryptographic random number generator.
  package static func random() -> HostSecret {
    var generator = SystemRandomNumberGenerator()
    return HostSecret(random: &generator)
  }

  /// A placeholder, so that the secret never appears in logs.
  package var description: String { "(secret)" }

  var key: SymmetricKey { SymmetricKey(data: bytes) }
}
