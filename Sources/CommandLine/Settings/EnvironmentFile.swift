package import APIClient

/// Parses the `.env` format: `KEY=VALUE` lines, `#` comments, optional `export`, single quotes (literal) or double
/// quotes (with `\n`, `\t`, `\"`, `\\`, `\$`). Nothing is expanded or executed.
package enum EnvironmentFile {
  /// - Throws: `invalid_input` with the line number.
  package static func parse(_ text: String) throws(APIError) -> [String: String] {
    var values: [String: String] = [:]
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (index, line) in lines.enumerated() {
      guard let (key, value) = try parse(line: trimmed(line), number: index + 1) else { continue }
      values[key] = value
    }
    return values
  }

  private static func parse(line: Substring, number: Int) throws(APIError) -> (String, String)? {
    guard !line.isEmpty, !line.hasPrefix("#") else { return nil }
    let assignment = line.hasPrefix("export ") ? trimmed(line.dropFirst("export ".count)) : line
    guard let equals = assignment.firstIndex(of: "=") else { throw malformed(number, "expected KEY=VALUE") }
    let key = trimmed(assignment[..<equals])
    guard isName(key) else { throw malformed(number, "'\(key)' is not a name of a variable") }
    let rest = trimmed(assignment[assignment.index(after: equals)...])
    return (String(key), try parse(value: rest, number: number))
  }

  private static func parse(value: Substring, number: Int) throws(APIError) -> String {
    guard let quote = value.first, quote == "\"" || quote == "'" else { return String(withoutComment(value)) }
    var result = ""
    var rest = value.dropFirst()
    while let character = rest.popFirst() {
      if character == quote {
        let tail = trimmed(rest)
        guard tail.isEmpty || tail.hasPrefix("#") else { throw malformed(number, "text after the closing quote") }
        return result
      }
      guard character == "\\", quote == "\"" else {
        result.append(character)
        continue
      }
      guard let escaped = rest.popFirst() else { break }
      result += try unescape(escaped, number: number)
    }
    throw malformed(number, "the quote is not closed")
  }

  private static func unescape(_ character: Character, number: Int) throws(APIError) -> String {
    switch character {
    case "n": "\n"
    case "t": "\t"
    case "\"", "\\", "$": String(character)
    default: throw malformed(number, "'\\\(character)' is not an escape that .env knows")
    }
  }

  /// Removes a comment from an unquoted value; it begins at a `#` after white space.
  private static func withoutComment(_ value: Substring) -> Substring {
    var previous: Character = " "
    for index in value.indices {
      if value[index] == "#", previous == " " || previous == "\t" { return trimmed(value[..<index]) }
      previous = value[index]
    }
    return value
  }

  private static func isName(_ text: Substring) -> Bool {
    guard let first = text.utf8.first, first == UInt8(ascii: "_") || isLetter(first) else { return false }
    return text.utf8.allSatisfy {
      $0 == UInt8(ascii: "_") || isLetter($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
    }
  }

  private static func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return text
  }

  private static func malformed(_ line: Int, _ what: String) -> APIError {
    APIError(.invalidInput, ".env line \(line): \(what)")
  }
}
