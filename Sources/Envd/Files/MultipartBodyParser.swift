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
