import Crypto

/// What a host and the control planes that may call it know, and nobody else: 256 random bits.
///
/// A host makes another one at each start, so that nothing of what was said before is worth anything to whoever
/// listened.
package struct HostSecret: Sendable, Equatable, CustomStringConvertible {
  package static let byteCount = 32

  package let bytes: [UInt8]

  /// - Returns: nil for anything but 32 bytes.
  package init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    self.bytes = bytes
  }

  private init(random generator: inout some RandomNumberGenerator) {
    bytes = (0..<Self.byteCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
  }

  /// From the system's own generator, which is made for secrets.
  package static func random() -> HostSecret {
    var generator = SystemRandomNumberGenerator()
    return HostSecret(random: &generator)
  }

  /// Says nothing: secrets are never shown.
  package var description: String { "(secret)" }

  var key: SymmetricKey { SymmetricKey(data: bytes) }
}
