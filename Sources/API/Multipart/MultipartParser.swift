import Glibc
import Model
import NIOCore

/// Parses a `multipart/form-data` body while it arrives. Buffers at most one delimiter's length of a part's content.
///
/// ```
/// preamble ──delimiter──▶ headers ──blank line──▶ content ──delimiter──▶ headers | end
/// ```
/// Source: RFC 7578, RFC 2046 section 5.1.1
struct MultipartParser {
  static let maximumHeaderBytes = 8_192
  static let maximumPreambleBytes = 1_024
  static let maximumParts = 16

  enum Event: Equatable {
    /// A part begins; the value is the name of its form field.
    case part(String)
    case content(ByteBuffer)
    case partEnd
    case end
  }

  private enum State {
    case preamble
    case headers
    case content
    case afterDelimiter
    case ended
  }

  private let delimiter: [UInt8]
  private var state = State.preamble
  private var buffer = ByteBuffer()
  private var parts = 0

  /// - Parameter boundary: the boundary of the Content-Type header.
  init(boundary: String) {
    delimiter = Array("\r\n--\(boundary)".utf8)
    // The first delimiter may be at the start of the body, without a line break before it.
    buffer.writeString("\r\n")
  }

  /// The boundary of a Content-Type header.
  /// - Throws: `invalid_request` if the header has another type or no valid boundary.
  static func boundary(contentType: String?) throws(MartletError) -> String {
    let parts = (contentType ?? "").split(separator: ";").map { $0.trimmingPrefix { $0 == " " } }
    guard parts.first?.lowercased() == "multipart/form-data" else {
      throw MartletError(.invalidRequest, "the body must be multipart/form-data with the parts path and file")
    }
    for part in parts.dropFirst() where part.lowercased().hasPrefix("boundary=") {
      let value = part.dropFirst("boundary=".count).filter { $0 != "\"" }
      if (1...70).contains(value.utf8.count), value.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) {
        return String(value)
      }
    }
    throw MartletError(.invalidRequest, "the Content-Type needs a boundary of 1 to 70 characters")
  }

  mutating func append(_ bytes: ByteBuffer) {
    if buffer.readableBytes == 0 { buffer = bytes } else { buffer.writeImmutableBuffer(bytes) }
  }

  /// - Returns: nil when more bytes are needed.
  /// - Throws: `invalid_request` for a malformed body.
  mutating func next() throws(MartletError) -> Event? {
    while true {
      switch state {
      case .preamble:
        guard try skipPreamble() else { return nil }
      case .afterDelimiter:
        guard let event = try afterDelimiter() else {
          if case .headers = state { continue }
          return nil
        }
        return event
      case .headers:
        return try headers()
      case .content:
        return content()
      case .ended:
        buffer.clear()
        return nil
      }
    }
  }

  private mutating func skipPreamble() throws(MartletError) -> Bool {
    guard let index = Self.find(delimiter, in: buffer) else {
      guard buffer.readableBytes <= Self.maximumPreambleBytes else {
        throw Self.malformed("the first boundary is missing")
      }
      return false
    }
    buffer.moveReaderIndex(forwardBy: index + delimiter.count)
    state = .afterDelimiter
    return true
  }

  private mutating func afterDelimiter() throws(MartletError) -> Event? {
    guard buffer.readableBytes >= 2 else { return nil }
    let two = buffer.readBytes(length: 2) ?? []
    if two == Array("--".utf8) {
      state = .ended
      return .end
    }
    guard two == Array("\r\n".utf8) else { throw Self.malformed("a boundary is not followed by a line break") }
    parts += 1
    guard parts <= Self.maximumParts else { throw Self.malformed("it has more than \(Self.maximumParts) parts") }
    state = .headers
    return nil
  }

  private mutating func headers() throws(MartletError) -> Event? {
    guard let length = Self.find(Array("\r\n\r\n".utf8), in: buffer) else {
      guard buffer.readableBytes <= Self.maximumHeaderBytes else {
        throw Self.malformed("the header of a part is too long")
      }
      return nil
    }
    guard length <= Self.maximumHeaderBytes, let text = buffer.readString(length: length) else {
      throw Self.malformed("the header of a part is too long")
    }
    // The header's last line break stays in the buffer: it is part of the delimiter after an empty part.
    buffer.moveReaderIndex(forwardBy: 4)
    guard let name = Self.fieldName(text) else { throw Self.malformed("a part has no name") }
    state = .content
    return .part(name)
  }

  private mutating func content() -> Event? {
    if let index = Self.find(delimiter, in: buffer) {
      if index > 0, let content = buffer.readSlice(length: index) { return .content(content) }
      buffer.moveReaderIndex(forwardBy: delimiter.count)
      state = .afterDelimiter
      return .partEnd
    }
    let safe = buffer.readableBytes - delimiter.count + 1
    guard safe > 0, let content = buffer.readSlice(length: safe) else { return nil }
    buffer = buffer.slice()
    return .content(content)
  }

  private static func malformed(_ what: String) -> MartletError {
    MartletError(.invalidRequest, "the multipart body is malformed: \(what)")
  }

  private static func find(_ needle: [UInt8], in buffer: ByteBuffer) -> Int? {
    buffer.withUnsafeReadableBytes { bytes in
      guard let base = bytes.baseAddress, let first = needle.first else { return nil }
      var offset = 0
      while offset + needle.count <= bytes.count {
        guard let hit = memchr(base + offset, Int32(first), bytes.count - offset - needle.count + 1) else { return nil }
        let index = UnsafeRawPointer(hit) - base
        if memcmp(base + index, needle, needle.count) == 0 { return index }
        offset = index + 1
      }
      return nil
    }
  }

  /// The parameter `name` of the Content-Disposition header.
  private static func fieldName(_ header: String) -> String? {
    for line in header.split(separator: "\r\n") where line.lowercased().hasPrefix("content-disposition:") {
      for parameter in line.split(separator: ";").dropFirst() {
        let text = parameter.trimmingPrefix { $0 == " " }
        guard text.lowercased().hasPrefix("name=") else { continue }
        return String(text.dropFirst("name=".count).filter { $0 != "\"" })
      }
    }
    return nil
  }
}
