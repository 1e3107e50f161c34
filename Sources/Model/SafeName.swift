/// A template or snapshot name that is safe in paths, command lines and URLs.
///
/// 1 to 64 characters: first an ASCII letter or digit, then ASCII letters, digits, `.`, `_` and `-`.
package struct SafeName: Hashable, Sendable, Comparable, CustomStringConvertible {
  package static let maximumLength = 64

  package let value: String

  /// - Throws: `invalid_request` if `value` violates this rule.
  package init(_ value: String, what: String = "name") throws(MartletError) {
    guard Self.isSafe(value) else {
      throw MartletError(
        .invalidRequest,
        "\(what) must start with a letter or digit and contain only letters, digits, '.', '_' and '-', "
          + "1 to \(Self.maximumLength) characters")
    }
    self.value = value
  }

  private init(unchecked value: String) {
    self.value = value
  }

  package static let minimal = SafeName(unchecked: "minimal")
  package static let base = SafeName(unchecked: "base")

  package var description: String { value }

  package static func < (left: Self, right: Self) -> Bool { left.value < right.value }

  private static func isSafe(_ value: String) -> Bool {
    let bytes = value.utf8
    guard (1...maximumLength).contains(bytes.count), let first = bytes.first, isAlphanumeric(first) else {
      return false
    }
    return bytes.allSatisfy {
      isAlphanumeric($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-")
    }
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: false
    }
  }
}

extension SafeName: Codable {
  package init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(value)
  }
}
