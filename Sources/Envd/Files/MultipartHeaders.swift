/// The headers of one part of a multipart body that uploads need.
///
/// Source: RFC 7578; RFC 2183 (Content-Disposition); RFC 8187 (`filename*`)
struct MultipartHeaders: Sendable, Equatable {
  /// The field's name; empty if the part has none.
  let name: String
  /// nil if the part is not a file.
  let filename: String?

  /// - Parameter block: the header lines without the empty line at their end.
  /// - Throws: `invalidArgument` for text that is not UTF-8.
  init(block: some Collection<UInt8>) throws(FileFailure) {
    guard let text = String(validating: block, as: UTF8.self) else {
      throw FileFailure(.invalidArgument, "a multipart header is not valid UTF-8")
    }
    var parameters: [String: String] = [:]
    for line in text.split(separator: "\r\n") {
      let halves = line.split(separator: ":", maxSplits: 1)
      guard halves.count == 2, halves[0].trimmed.lowercased() == "content-disposition" else { continue }
      parameters = HeaderParameters.parse(halves[1])
    }
    name = parameters["name"] ?? ""
    filename = parameters["filename*"].flatMap(HeaderParameters.decodeExtended) ?? parameters["filename"]
  }
}

/// Parameters of a header value like `form-data; name="file"; filename="a b"`.
enum HeaderParameters {
  /// Lower-case names and values. The first one of equal names counts; unreadable parameters are skipped.
  static func parse(_ value: Substring) -> [String: String] {
    var parameters: [String: String] = [:]
    var rest = value.drop { $0 != ";" }
    while rest.first == ";" {
      rest = rest.dropFirst()
      let name = rest.prefix { $0 != "=" && $0 != ";" }
      rest = rest.dropFirst(name.count)
      guard rest.first == "=" else { continue }
      rest = rest.dropFirst().drop { $0 == " " || $0 == "\t" }
      let text = rest.first == "\"" ? takeQuoted(&rest) : takeToken(&rest)
      let key = name.trimmed.lowercased()
      if parameters[key] == nil { parameters[key] = text }
      rest = rest.drop { $0 != ";" }
    }
    return parameters
  }

  /// The value without its parameters in lower case: `multipart/form-data` of `multipart/form-data; boundary=x`.
  static func mainValue(_ value: String) -> String {
    value.prefix { $0 != ";" }.trimmed.lowercased()
  }

  private static func takeToken(_ rest: inout Substring) -> String {
    let token = rest.prefix { $0 != ";" }
    rest = rest.dropFirst(token.count)
    return String(token.trimmed)
  }

  /// A backslash escapes a quotation mark or a backslash. Otherwise it is literal, because some clients send paths.
  private static func takeQuoted(_ rest: inout Substring) -> String {
    rest = rest.dropFirst()
    var text = ""
    while let character = rest.popFirst(), character != "\"" {
      if character == "\\", let next = rest.first, next == "\"" || next == "\\" {
        text.append(next)
        rest = rest.dropFirst()
      } else {
        text.append(character)
      }
    }
    return text
  }

  /// Decodes `UTF-8''percent%20encoded`; nil for other character sets and malformed text.
  static func decodeExtended(_ value: String) -> String? {
    let parts = value.split(separator: "'", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].lowercased() == "utf-8" else { return nil }
    var bytes: [UInt8] = []
    var input = parts[2].utf8.makeIterator()
    while let byte = input.next() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = input.next().flatMap(FilesQuery.hexValue), let low = input.next().flatMap(FilesQuery.hexValue)
      else { return nil }
      bytes.append(high << 4 | low)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}
