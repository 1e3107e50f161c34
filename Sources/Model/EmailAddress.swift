/// An email address, trimmed and in lower case, so that one mailbox is one user.
///
/// Accepts the form `local@domain` in ASCII: the local part of letters, digits and ``!#$%&'*+/=?^_`{|}~.-``, the domain
/// of two or more host name labels. Refuses quoted local parts and address literals.
///
/// Source: RFC 5321 sections 4.1.2 and 4.5.3.1
package struct EmailAddress: Hashable, Sendable, CustomStringConvertible {
  package let value: String

  /// - Throws: `invalid_request`.
  package init(_ text: String) throws(MartletError) {
    guard let value = Self.normalized(text) else {
      throw MartletError(.invalidRequest, "email must be an address such as name@example.com")
    }
    self.value = value
  }

  package var description: String { value }

  /// The part before the `@`.
  package var localPart: Substring { value.prefix { $0 != "@" } }

  private static func normalized(_ text: String) -> String? {
    guard text.utf8.count <= Limits.emailBytes * 2 else { return nil }
    let trimmed = text.utf8.drop(while: isSpace).reversed().drop(while: isSpace).reversed()
    guard (3...Limits.emailBytes).contains(trimmed.count), trimmed.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      return nil
    }
    let value = String(decoding: trimmed, as: UTF8.self).lowercased()
    let sides = value.split(separator: "@", omittingEmptySubsequences: false)
    guard sides.count == 2, isLocalPart(sides[0]), isDomain(sides[1]) else { return nil }
    return value
  }

  private static func isLocalPart(_ text: Substring) -> Bool {
    guard (1...64).contains(text.utf8.count) else { return false }
    return text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { atom in
      !atom.isEmpty && atom.utf8.allSatisfy { isAlphanumeric($0) || "!#$%&'*+/=?^_`{|}~-".utf8.contains($0) }
    }
  }

  private static func isDomain(_ text: Substring) -> Bool {
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    return labels.count >= 2
      && labels.allSatisfy { label in
        (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
          && label.utf8.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
      }
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
    default: false
    }
  }

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || (0x09...0x0D).contains(byte)
  }
}
