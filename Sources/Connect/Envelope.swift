package import NIOCore

/// One frame of a stream.
///
/// ```
/// offset 0  flags   1 byte   bit 0: compressed, bit 1: end of stream, others reserved
/// offset 1  length  4 bytes  big-endian, of the payload
/// offset 5  payload
/// ```
/// Source: https://connectrpc.com/docs/protocol/#streaming-request
package struct Envelope: Sendable, Equatable {
  package static let headerLength = 5

  package struct Flags: OptionSet, Sendable, Hashable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) {
      self.rawValue = rawValue
    }

    package static let compressed = Flags(rawValue: 1)
    package static let endOfStream = Flags(rawValue: 2)
  }

  package var flags: Flags
  package var payload: ByteBuffer

  package init(flags: Flags = [], payload: ByteBuffer) {
    self.flags = flags
    self.payload = payload
  }

  /// The frame's bytes. The payload's length must fit into the 4 bytes of the header; all limits are far below 4 GiB.
  package func encoded() -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.reserveCapacity(Self.headerLength + payload.readableBytes)
    buffer.writeInteger(flags.rawValue)
    buffer.writeInteger(UInt32(clamping: payload.readableBytes))
    buffer.writeImmutableBuffer(payload)
    return buffer
  }
}

/// Splits a byte stream into frames, independent of the pieces in which the bytes arrive.
///
/// Holds at most one incomplete frame and the piece that was appended last. A frame whose header announces more than
/// `maximumPayload` bytes is refused as soon as the header is complete.
package struct EnvelopeDecoder {
  private let maximumPayload: Int
  private var buffer = ByteBuffer()

  package init(maximumPayload: Int) {
    self.maximumPayload = maximumPayload
  }

  package mutating func append(_ bytes: ByteBuffer) {
    guard buffer.readableBytes > 0 else {
      buffer = bytes
      return
    }
    buffer.discardReadBytes()
    buffer.writeImmutableBuffer(bytes)
  }

  /// The next complete frame; nil when more bytes are needed. After an error the decoder must not be used any more.
  /// - Throws: `resource_exhausted` for a frame that is too long, `internal` for a compressed one (compression is never
  ///   negotiated), `invalid_argument` for reserved flags.
  package mutating func next() throws(ConnectError) -> Envelope? {
    guard let rawFlags = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self),
      let length = buffer.getInteger(at: buffer.readerIndex + 1, as: UInt32.self)
    else { return nil }
    let flags = Envelope.Flags(rawValue: rawFlags)
    try check(flags, length: length)
    guard buffer.readableBytes >= Envelope.headerLength + Int(length) else { return nil }
    buffer.moveReaderIndex(forwardBy: Envelope.headerLength)
    guard let payload = buffer.readSlice(length: Int(length)) else { return nil }
    return Envelope(flags: flags, payload: payload)
  }

  /// Checks that the byte stream ended between two frames. Call it after the last byte.
  /// - Throws: `invalid_argument` when the stream ended inside a frame.
  package func finish() throws(ConnectError) {
    guard buffer.readableBytes == 0 else {
      throw ConnectError(.invalidArgument, "the stream ended inside a frame")
    }
  }

  private func check(_ flags: Envelope.Flags, length: UInt32) throws(ConnectError) {
    guard !flags.contains(.compressed) else {
      throw ConnectError(.internalError, "the frame is compressed, but no compression was agreed on")
    }
    guard flags.subtracting(.endOfStream).isEmpty else {
      throw ConnectError(.invalidArgument, "the frame has unknown flags \(flags.rawValue)")
    }
    guard Int(length) <= maximumPayload else {
      throw ConnectError(
        .resourceExhausted, "a message of \(length) bytes is longer than the limit of \(maximumPayload)")
    }
  }
}
