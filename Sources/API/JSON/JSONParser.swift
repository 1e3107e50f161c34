import Model

/// Parses JSON strictly, with a bound on the nesting depth. Source: RFC 8259
///
/// Refuses text after the document, duplicate names, unpaired surrogates, bytes that are not UTF-8.
struct JSONParser {
  static let maximumDepth = 32

  private let bytes: [UInt8]
  private var position = 0

  /// - Throws: `invalid_request` with the byte offset of the error.
  static func parse(_ bytes: some Sequence<UInt8>) throws(MartletError) -> JSONValue {
    var parser = JSONParser(bytes: Array(bytes))
    parser.skipSpace()
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.position == parser.bytes.count else { throw parser.broken("there is text after the document") }
    return value
  }

  private init(bytes: [UInt8]) {
    self.bytes = bytes
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private func broken(_ what: String) -> MartletError {
    MartletError(.invalidRequest, "the body is not valid JSON: \(what) at byte \(position)")
  }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard current == byte else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws(MartletError) -> JSONValue {
    guard depth < Self.maximumDepth else { throw broken("the nesting is deeper than \(Self.maximumDepth) levels") }
    guard let current else { throw broken("the document ends too early") }
    switch current {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default: throw broken("unexpected character")
    }
  }

  private mutating func literal(_ text: String, _ value: JSONValue) throws(MartletError) -> JSONValue {
    guard bytes[position...].starts(with: text.utf8) else {
      throw broken("unknown literal; only true, false and null exist")
    }
    position += text.utf8.count
    return value
  }

  private mutating func array(depth: Int) throws(MartletError) -> JSONValue {
    position += 1
    var values: [JSONValue] = []
    skipSpace()
    if take(UInt8(ascii: "]")) { return .array(values) }
    while true {
      skipSpace()
      values.append(try value(depth: depth + 1))
      skipSpace()
      if take(UInt8(ascii: "]")) { return .array(values) }
      guard take(UInt8(ascii: ",")) else { throw broken("the array is not closed") }
    }
  }

  private mutating func object(depth: Int) throws(MartletError) -> JSONValue {
    position += 1
    var pairs: [JSONValue.Pair] = []
    var names: Set<String> = []
    skipSpace()
    if take(UInt8(ascii: "}")) { return .object(pairs) }
    while true {
      skipSpace()
      guard current == UInt8(ascii: "\"") else { throw broken("a field name is missing") }
      let name = try string()
      guard names.insert(name).inserted else { throw broken("a field name occurs twice") }
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw broken("a colon is missing") }
      skipSpace()
      pairs.append(JSONValue.Pair(name, try value(depth: depth + 1)))
      skipSpace()
      if take(UInt8(ascii: "}")) { return .object(pairs) }
      guard take(UInt8(ascii: ",")) else { throw broken("the object is not closed") }
    }
  }

  private mutating func number() throws(MartletError) -> JSONValue {
    let start = position
    _ = take(UInt8(ascii: "-"))
    if !take(UInt8(ascii: "0")) { try digits() }
    var isWhole = true
    if take(UInt8(ascii: ".")) {
      isWhole = false
      try digits()
    }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      isWhole = false
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      try digits()
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isWhole, let integer = Int64(text) { return .integer(integer) }
    guard let number = Double(text), number.isFinite else { throw broken("the number is too large") }
    return .number(number)
  }

  private mutating func digits() throws(MartletError) {
    let start = position
    while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
    guard position > start else { throw broken("a digit is missing") }
  }

  private mutating func string() throws(MartletError) -> String {
    position += 1
    var text: [UInt8] = []
    var start = position
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        text += bytes[start..<position]
        position += 1
        guard let string = String(validating: text, as: UTF8.self) else { throw broken("the string is not UTF-8") }
        return string
      case UInt8(ascii: "\\"):
        text += bytes[start..<position]
        position += 1
        try escape(into: &text)
        start = position
      case 0..<0x20:
        throw broken("control character in a string")
      default:
        position += 1
      }
    }
    throw broken("the string is not closed")
  }

  private mutating func escape(into text: inout [UInt8]) throws(MartletError) {
    guard let byte = current else { throw broken("the document ends too early") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0c)
    case UInt8(ascii: "n"): text.append(0x0a)
    case UInt8(ascii: "r"): text.append(0x0d)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"): text += try unicode()
    default: throw broken("unknown escape sequence")
    }
  }

  private mutating func unicode() throws(MartletError) -> [UInt8] {
    var code = try hexDigits()
    if (0xD800...0xDBFF).contains(code) {
      guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else { throw broken("unpaired surrogate") }
      let low = try hexDigits()
      guard (0xDC00...0xDFFF).contains(low) else { throw broken("unpaired surrogate") }
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(code) else { throw broken("unpaired surrogate") }
    return Array(String(Character(scalar)).utf8)
  }

  private mutating func hexDigits() throws(MartletError) -> UInt32 {
    guard position + 4 <= bytes.count,
      bytes[position..<position + 4].allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
      let code = UInt32(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
    else { throw broken("\\u is not followed by four hexadecimal digits") }
    position += 4
    return code
  }
}
