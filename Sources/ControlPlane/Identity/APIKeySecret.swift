import Crypto
import Model

/// The secret of an API key: 160 random bits, written as `mrt_` and 40 hex digits.
///
/// The prefix `e2b_` with the same digits denotes the same key, because E2B's client checks the prefix. The database
/// stores a plain SHA-256 hash, which is sufficient, as 160-bit random numbers cannot be guessed from a dictionary.
struct APIKeySecret: Sendable, Equatable {
  static let prefix = "mrt_"
  static let compatiblePrefix = "e2b_"
  static let byteCount = 20
  /// The number of leading characters that lists show.
  static let shownCharacters = 12

  private let digits: String

  /// A new random secret.
  static func random() -> APIKeySecret {
    var generator = SystemRandomNumberGenerator()
    let bytes = (0..<byteCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    return APIKeySecret(digits: Hexadecimal.text(bytes))
  }

  private init(digits: String) {
    self.digits = digits
  }

  /// Nil unless `text` is one of the prefixes and 40 lower-case hex digits.
  init?(_ text: some StringProtocol) {
    guard text.hasPrefix(Self.prefix) || text.hasPrefix(Self.compatiblePrefix) else { return nil }
    let digits = text.utf8.dropFirst(Self.prefix.utf8.count)
    guard digits.count == Self.byteCount * 2, digits.allSatisfy({ Hexadecimal.value($0) != nil }) else { return nil }
    self.digits = String(decoding: Array(digits), as: UTF8.self)
  }

  var text: String { Self.prefix + digits }
  var shownPrefix: String { String(text.prefix(Self.shownCharacters)) }
  var hash: [UInt8] { Array(SHA256.hash(data: Array(digits.utf8))) }
}
