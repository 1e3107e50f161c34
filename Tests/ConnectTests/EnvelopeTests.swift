import Connect
import ConnectServer
import NIOCore
import Testing

@Suite("frames of a stream")
struct EnvelopeTests {
  @Test("a frame is one flag byte, four big-endian length bytes and the payload")
  func annotatedBytes() {
    let frame = Envelope(flags: .endOfStream, payload: ByteBuffer(string: "{}"))
    #expect(
      Array(frame.encoded().readableBytesView) == [
        0x02,  // flags: end of stream
        0x00, 0x00, 0x00, 0x02,  // length 2
        0x7B, 0x7D,  // {}
      ])
  }

  @Test("frames are decoded correctly from pieces of any size", arguments: [1, 2, 3, 5, 7, 64])
  func pieces(size: Int) throws {
    let frames = [
      Envelope(payload: ByteBuffer(string: "first")), Envelope(payload: ByteBuffer()),
      Envelope(flags: .endOfStream, payload: ByteBuffer(string: "{}")),
    ]
    var bytes = ByteBuffer()
    for frame in frames { bytes.writeImmutableBuffer(frame.encoded()) }
    var decoder = EnvelopeDecoder(maximumPayload: 16)
    var decoded: [Envelope] = []
    while bytes.readableBytes > 0, let piece = bytes.readSlice(length: min(size, bytes.readableBytes)) {
      decoder.append(piece)
      while let frame = try decoder.next() { decoded.append(frame) }
    }
    try decoder.finish()
    #expect(decoded == frames)
  }

  @Test("a frame that announces more than the limit is refused at its header")
  func lengthBomb() {
    var decoder = EnvelopeDecoder(maximumPayload: 1_024)
    decoder.append(ByteBuffer(bytes: [0x00, 0xFF, 0xFF, 0xFF, 0xFF]))
    #expect(throws: ConnectError(.resourceExhausted, "a message of 4294967295 bytes is longer than the limit of 1024"))
    {
      try decoder.next()
    }
  }

  @Test("a frame of exactly the limit passes; one byte more does not")
  func limit() throws {
    var decoder = EnvelopeDecoder(maximumPayload: 4)
    decoder.append(Envelope(payload: ByteBuffer(string: "1234")).encoded())
    #expect(try decoder.next()?.payload == ByteBuffer(string: "1234"))
    decoder.append(Envelope(payload: ByteBuffer(string: "12345")).encoded())
    #expect(throws: ConnectError.self) { try decoder.next() }
  }

  @Test(
    "compressed frames and reserved flags are refused",
    arguments: [(UInt8(1), ConnectCode.internalError), (4, .invalidArgument), (0x80, .invalidArgument)])
  func flags(raw: UInt8, code: ConnectCode) {
    var decoder = EnvelopeDecoder(maximumPayload: 16)
    decoder.append(ByteBuffer(bytes: [raw, 0, 0, 0, 0]))
    let error = #expect(throws: ConnectError.self) { try decoder.next() }
    #expect(error?.code == code)
  }

  @Test("bytes that end inside a header or payload are an error", arguments: [3, 6])
  func truncated(length: Int) throws {
    var decoder = EnvelopeDecoder(maximumPayload: 16)
    var bytes = Envelope(payload: ByteBuffer(string: "abc")).encoded()
    let piece = bytes.readSlice(length: length)
    decoder.append(try #require(piece))
    #expect(try decoder.next() == nil)
    #expect(throws: ConnectError.self) { try decoder.finish() }
  }
}
