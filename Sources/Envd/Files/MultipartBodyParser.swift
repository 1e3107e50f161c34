import CLinux
import NIOCore

/// Splits a multipart body into parts while it arrives, without copying the content.
///
/// ```
/// preamble ──boundary──▶ headers ──empty line──▶ content ──boundary──▶ headers … ──boundary"--"──▶ epilogue (ignored)
/// ```
/// Source: RFC 2046, 5.1
struct MultipartBodyParser {
  enum Event: Equatable {
    case begin(MultipartHeaders)
    case content(ByteBuffer)
    case end
  }

  /// Longest header block of a part.
  static let maximumHeaderBytes = 16_384
  /// Longest boundary. Source: RFC 2046, 5.1.1
  static let maximumBoundaryBytes = 70
  static let maximumParts = 10_000

  private enum State {
    case preamble
    /// Right after a boundary: `--` ends the body, a line break begins a part.
    case afterBoundary
    case headers
    case content
    case epilogue
  }

  private let delimiter: [UInt8]
  private var state = State.preamble
  /// Input that is not parsed yet: less than a delimiter outside of headers, at most `maximumHeaderBytes` in headers.
  private var pending: ByteBuffer
  private var parts = 0

  /// - Parameter contentType: the request's `Content-Type`.
  /// - Throws: `invalidArgument` when it has no usable boundary.
  init(contentType: String) throws(FileFailure) {
    let boundary = HeaderParameters.parse(Substring(contentType))["boundary"] ?? ""
    guard !boundary.isEmpty, boundary.utf8.count <= Self.maximumBoundaryBytes else {
      throw FileFailure(
        .invalidArgument, "the multipart content type has no boundary of 1 to \(Self.maximumBoundaryBytes) bytes")
    }
    delimiter = Array("\r\n--\(boundary)".utf8)
    // The first boundary may be at the very beginning, without a line break before it.
    pending = ByteBuffer(string: "\r\n")
  }

  /// Parses the next piece of the body.
  /// - Throws: `invalidArgument` when the body is malformed or exceeds a limit.
  mutating func consume(_ buffer: ByteBuffer) throws(FileFailure) -> [Event] {
    var input = buffer
    if pending.readableBytes > 0 {
      pending.writeBuffer(&input)
      input = pending
      pending = ByteBuffer()
    }
    var events: [Event] = []
    while input.readableBytes > 0, try advance(&input, &events) {}
    pending = input.readableBytes > 0 ? ByteBuffer(bytes: input.readableBytesView) : ByteBuffer()
    return events
  }

  /// - Throws: `invalidArgument` when the closing boundary is missing.
  func finish() throws(FileFailure) {
    guard case .epilogue = state else {
      throw FileFailure(.invalidArgument, "the multipart body ends before its closing boundary")
    }
  }

  /// One step. Returns false when it needs more input.
  private mutating func advance(_ input: inout ByteBuffer, _ events: inout [Event]) throws(FileFailure) -> Bool {
    switch state {
    case .preamble: return takeContent(&input) { _ in }
    case .content: return takeContent(&input, finished: { events.append(.end) }) { events.append(.content($0)) }
    case .afterBoundary: return try takeBoundaryEnd(&input)
    case .headers: return try takeHeaders(&input, &events)
    case .epilogue:
      input.clear()
      return false
    }
  }

  private mutating func takeContent(
    _ input: inout ByteBuffer, finished: () -> Void = {}, emit: (ByteBuffer) -> Void
  ) -> Bool {
    if let offset = input.offset(of: delimiter) {
      if offset > 0, let slice = input.readSlice(length: offset) { emit(slice) }
      input.moveReaderIndex(forwardBy: delimiter.count)
      finished()
      state = .afterBoundary
      return true
    }
    let undecided = input.lengthOfSuffixBeginning(delimiter)
    let decided = input.readableBytes - undecided
    if decided > 0, let slice = input.readSlice(length: decided) { emit(slice) }
    return false
  }

  private mutating func takeBoundaryEnd(_ input: inout ByteBuffer) throws(FileFailure) -> Bool {
    // Spaces and tabs between the boundary and its line break are padding.
    while let byte = input.getInteger(at: input.readerIndex, as: UInt8.self), byte == 0x20 || byte == 0x09 {
      input.moveReaderIndex(forwardBy: 1)
    }
    guard let next = input.getBytes(at: input.readerIndex, length: 2) else { return false }
    switch next {
    case [0x2D, 0x2D]: state = .epilogue
    case [0x0D, 0x0A]: state = .headers
    default: throw FileFailure(.invalidArgument, "a multipart boundary is followed by something else than a line break")
    }
    // The line break stays in the input, so that an empty header block also ends at an empty line.
    if case .epilogue = state { input.moveReaderIndex(forwardBy: 2) }
    return true
  }

  private mutating func takeHeaders(_ input: inout ByteBuffer, _ events: inout [Event]) throws(FileFailure) -> Bool {
    guard let length = input.offset(of: [0x0D, 0x0A, 0x0D, 0x0A]) else {
      guard input.readableBytes <= Self.maximumHeaderBytes else { throw Self.headersTooLong }
      return false
    }
    guard length <= Self.maximumHeaderBytes else { throw Self.headersTooLong }
    parts += 1
    guard parts <= Self.maximumParts else {
      throw FileFailure(.invalidArgument, "the multipart body has more than \(Self.maximumParts) parts")
    }
    let block = input.readBytes(length: length) ?? []
    input.moveReaderIndex(forwardBy: 4)
    events.append(.begin(try MultipartHeaders(block: block)))
    state = .content
    return true
  }

  private static var headersTooLong: FileFailure {
    FileFailure(.invalidArgument, "the headers of a multipart part are longer than \(maximumHeaderBytes) bytes")
  }
}

extension ByteBuffer {
  /// Offset of the first occurrence of `pattern` from the reader index.
  func offset(of pattern: [UInt8]) -> Int? {
    withUnsafeReadableBytes { bytes in
      guard let base = bytes.baseAddress, let found = clinux_find(base, bytes.count, pattern, pattern.count) else {
        return nil
      }
      return UnsafeRawPointer(found) - base
    }
  }

  /// Length of the longest suffix that is a proper prefix of `pattern`.
  func lengthOfSuffixBeginning(_ pattern: [UInt8]) -> Int {
    withUnsafeReadableBytes { bytes in
      var length = min(bytes.count, pattern.count - 1)
      while length > 0 {
        if bytes.suffix(length).elementsEqual(pattern.prefix(length)) { return length }
        length -= 1
      }
      return 0
    }
  }
}

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
