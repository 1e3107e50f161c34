import Foundation

/// Encodes the JSON document that `--json` prints.
enum JSONOutput {
  static func text(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return escaped(String(decoding: try encoder.encode(value), as: UTF8.self))
  }

  /// Writes what a terminal would not show as it stands, such as C1 control characters and bidirectional marks, as
  /// `\uXXXX`, which is the same JSON. Such characters occur only inside of strings; line breaks also between them.
  static func escaped(_ json: String) -> String {
    guard !json.unicodeScalars.allSatisfy({ $0.isVisible || $0 == "\n" }) else { return json }
    var result = ""
    for scalar in json.unicodeScalars {
      guard !scalar.isVisible, scalar != "\n" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      for unit in String(scalar).utf16 {
        let digits = String(unit, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      }
    }
    return result
  }
}
