import NIOCore

/// Writes JSON without white space. Source: RFC 8259
enum JSONWriter {
  /// Initial capacity of the output; enough for one sandbox.
  private static let initialCapacity = 1_024

  static func bytes(_ value: JSONValue) -> ByteBuffer {
    var output: [UInt8] = []
    output.reserveCapacity(initialCapacity)
    write(value, to: &output)
    return ByteBuffer(bytes: output)
  }

  static func text(_ value: JSONValue) -> String {
    var output: [UInt8] = []
    write(value, to: &output)
    return String(decoding: output, as: UTF8.self)
  }

  private static func write(_ value: JSONValue, to output: inout [UInt8]) {
    switch value {
    case .null: output += "null".utf8
    case .bool(let flag): output += (flag ? "true" : "false").utf8
    case .integer(let number): output += String(number).utf8
    case .number(let number): output += (number.isFinite ? String(number) : "null").utf8
    case .string(let text): write(text, to: &output)
    case .array(let values): write(values, to: &output)
    case .object(let pairs): write(pairs, to: &output)
    }
  }

  private static func write(_ values: [JSONValue], to output: inout [UInt8]) {
    output.append(UInt8(ascii: "["))
    for (index, value) in values.enumerated() {
      if index > 0 { output.append(UInt8(ascii: ",")) }
      write(value, to: &output)
    }
    output.append(UInt8(ascii: "]"))
  }

  private static func write(_ pairs: [JSONValue.Pair], to output: inout [UInt8]) {
    output.append(UInt8(ascii: "{"))
    for (index, pair) in pairs.enumerated() {
      if index > 0 { output.append(UInt8(ascii: ",")) }
      write(pair.name, to: &output)
      output.append(UInt8(ascii: ":"))
      write(pair.value, to: &output)
    }
    output.append(UInt8(ascii: "}"))
  }

  private static func write(_ text: String, to output: inout [UInt8]) {
    var text = text
    output.append(UInt8(ascii: "\""))
    text.withUTF8 { bytes in
      // Most strings need no escape and are copied as a whole.
      if bytes.contains(where: needsEscape) {
        for byte in bytes { writeEscaped(byte, to: &output) }
      } else {
        output.append(contentsOf: bytes)
      }
    }
    output.append(UInt8(ascii: "\""))
  }

  /// Number of bytes of the JSON form of a string with these bytes, without the quotes.
  static func escapedBytes(_ bytes: some Sequence<UInt8>) -> Int {
    bytes.reduce(into: 0) { sum, byte in
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), 0x0a, 0x0d, 0x09: sum += 2
      case 0..<0x20: sum += 6
      default: sum += 1
      }
    }
  }

  private static func needsEscape(_ byte: UInt8) -> Bool {
    byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
  }

  private static func writeEscaped(_ byte: UInt8, to output: inout [UInt8]) {
    switch byte {
    case UInt8(ascii: "\""): output += [UInt8(ascii: "\\"), UInt8(ascii: "\"")]
    case UInt8(ascii: "\\"): output += [UInt8(ascii: "\\"), UInt8(ascii: "\\")]
    case 0x0a: output += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
    case 0x0d: output += [UInt8(ascii: "\\"), UInt8(ascii: "r")]
    case 0x09: output += [UInt8(ascii: "\\"), UInt8(ascii: "t")]
    case 0..<0x20: output += escaped(byte)
    default: output.append(byte)
    }
  }

  private static func escaped(_ byte: UInt8) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    return Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
  }
}
