package import NIOCore
package import SwiftProtobuf

/// Encodes and decodes messages; the raw value is the codec's name in content types.
package enum ConnectCodec: String, Sendable, CaseIterable {
  case json
  case proto

  package var unaryContentType: String { "application/\(rawValue)" }
  package var streamContentType: String { "application/connect+\(rawValue)" }

  /// Parses a content type. Parameters such as `; charset=utf-8` are ignored.
  package init?(unaryContentType: String) {
    self.init(unaryContentType, prefix: "application/")
  }

  package init?(streamContentType: String) {
    self.init(streamContentType, prefix: "application/connect+")
  }

  private init?(_ contentType: String, prefix: String) {
    let type = contentType.prefix { $0 != ";" && $0 != " " }.lowercased()
    guard type.hasPrefix(prefix) else { return nil }
    self.init(rawValue: String(type.dropFirst(prefix.count)))
  }

  /// Decodes one message. Unknown JSON fields are ignored, unknown protobuf fields are dropped.
  /// - Throws: `invalid_argument` when the bytes are not a message of this type.
  package func decode<M: Message>(_ type: M.Type = M.self, from bytes: ByteBuffer) throws(ConnectError) -> M {
    do {
      switch self {
      case .json:
        var options = JSONDecodingOptions()
        options.ignoreUnknownFields = true
        return try M(jsonUTF8Bytes: MessageBytes(bare: bytes), options: options)
      case .proto:
        var options = BinaryDecodingOptions()
        options.discardUnknownFields = true
        return try M(serializedBytes: MessageBytes(bare: bytes), options: options)
      }
    } catch {
      throw ConnectError(.invalidArgument, "the message is not valid \(rawValue) for \(M.protoMessageName)")
    }
  }

  /// Encodes the message without a frame header, as unary calls send it.
  package func encode(_ message: some Message) throws(ConnectError) -> ByteBuffer {
    var buffer = try bytes(of: message).framed
    buffer.moveReaderIndex(forwardBy: Envelope.headerLength)
    return buffer
  }

  /// Encodes the message as a frame of a stream. The frame header is written in front of it without a copy.
  package func encodeFrame(_ message: some Message) throws(ConnectError) -> ByteBuffer {
    var buffer = try bytes(of: message).framed
    let length = UInt32(clamping: buffer.readableBytes - Envelope.headerLength)
    buffer.setInteger(length, at: buffer.readerIndex + 1)
    return buffer
  }

  private func bytes(of message: some Message) throws(ConnectError) -> MessageBytes {
    do {
      switch self {
      case .json: return try message.jsonUTF8Bytes()
      case .proto: return try message.serializedBytes()
      }
    } catch {
      throw ConnectError(.internalError, "the message cannot be encoded as \(rawValue)")
    }
  }
}

/// Lets swift-protobuf read and write a `ByteBuffer` without a copy. Written messages start after
/// `Envelope.headerLength` bytes that are reserved for a frame header.
private struct MessageBytes: SwiftProtobufContiguousBytes {
  /// Header and payload. The header is zero until the codec fills it in.
  private(set) var framed: ByteBuffer
  private let headerLength: Int

  init(bare: ByteBuffer) {
    framed = bare
    headerLength = 0
  }

  init(repeating byte: UInt8, count: Int) {
    framed = ByteBuffer()
    headerLength = Envelope.headerLength
    framed.reserveCapacity(headerLength + count)
    framed.writeRepeatingByte(0, count: headerLength)
    framed.writeRepeatingByte(byte, count: count)
  }

  init<S: Sequence>(_ sequence: S) where S.Element == UInt8 {
    framed = ByteBuffer()
    headerLength = Envelope.headerLength
    framed.reserveCapacity(headerLength + sequence.underestimatedCount)
    framed.writeRepeatingByte(0, count: headerLength)
    framed.writeBytes(sequence)
  }

  var count: Int { framed.readableBytes - headerLength }

  func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try framed.withUnsafeReadableBytes { bytes in
      try body(UnsafeRawBufferPointer(rebasing: bytes[headerLength...]))
    }
  }

  mutating func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows -> R {
    let headerLength = headerLength
    return try framed.withUnsafeMutableReadableBytes { bytes in
      try body(UnsafeMutableRawBufferPointer(rebasing: bytes[headerLength...]))
    }
  }
}
