package import Foundation

/// Formats and parses the lower-case text form of a UUID. Foundation uses scanf and printf for each, which is too slow
/// for the many ids of a request.
///
/// Source: RFC 9562, section 4
package enum UUIDText {
  package static let length = 36

  package static func string(_ uuid: UUID) -> String {
    String(unsafeUninitializedCapacity: length) { text in
      withUnsafeBytes(of: uuid.uuid) { bytes in
        var position = 0
        for byte in bytes {
          if isDash(position) {
            text[position] = UInt8(ascii: "-")
            position += 1
          }
          text[position] = digit(byte >> 4)
          text[position + 1] = digit(byte & 15)
          position += 2
        }
      }
      return length
    }
  }

  /// Returns nil for any other form, including upper-case digits.
  package static func parse(_ text: Substring) -> UUID? {
    var text = text
    return text.withUTF8(parse)
  }

  private static func parse(_ text: UnsafeBufferPointer<UInt8>) -> UUID? {
    guard text.count == length else { return nil }
    var uuid: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    let isValid = withUnsafeMutableBytes(of: &uuid) { bytes in
      var digits = 0
      for position in 0..<length {
        if isDash(position) {
          guard text[position] == UInt8(ascii: "-") else { return false }
          continue
        }
        guard let value = value(text[position]) else { return false }
        bytes[digits / 2] = bytes[digits / 2] << 4 | value
        digits += 1
      }
      return true
    }
    return isValid ? UUID(uuid: uuid) : nil
  }

  private static func isDash(_ position: Int) -> Bool {
    position == 8 || position == 13 || position == 18 || position == 23
  }

  private static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
  }

  private static func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    default: nil
    }
  }
}
