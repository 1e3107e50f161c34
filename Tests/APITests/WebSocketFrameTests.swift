import HTTPTypes
import NIOCore
import Testing

import enum NIOWebSocket.WebSocketErrorCode

@testable import WebSocket

/// Well-formed and malformed frames of clients.
enum FrameBytes {
  static func bytes(
    _ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, mask: [UInt8]? = [1, 2, 3, 4], reserved: UInt8 = 0
  ) -> [UInt8] {
    var frame: [UInt8] = [(isFinal ? 0x80 : 0) | reserved | opcode]
    let maskBit: UInt8 = mask == nil ? 0 : 0x80
    switch payload.count {
    case ..<126: frame.append(maskBit | UInt8(payload.count))
    case ..<65_536: frame += [maskBit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
    default: frame += [maskBit | 127] + (0..<8).reversed().map { UInt8(truncatingIfNeeded: payload.count >> ($0 * 8)) }
    }
    guard let mask else { return frame + payload }
    return frame + mask + payload.enumerated().map { $0.element ^ mask[$0.offset % 4] }
  }
}

@Suite struct WebSocketFrameTests {
  private func parse(_ bytes: [UInt8], maximum: Int = 1_000) throws -> ClientFrame? {
    var parser = WebSocketFrameParser(maximumPayloadBytes: maximum)
    var buffer = ByteBuffer(bytes: bytes)
    return try parser.next(&buffer)
  }

  @Test("frames of every length encoding are unmasked", arguments: [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
  func lengths(length: Int) throws {
    let payload = (0..<length).map { UInt8(truncatingIfNeeded: $0) }
    let frame = try #require(try parse(FrameBytes.bytes(2, payload), maximum: 100_000))
    #expect(frame.payload == ByteBuffer(bytes: payload))
    #expect(frame.opcode == .binary)
  }

  @Test("an incomplete frame consumes nothing")
  func incomplete() throws {
    let whole = FrameBytes.bytes(1, Array("hello".utf8))
    for length in 0..<whole.count {
      var parser = WebSocketFrameParser(maximumPayloadBytes: 100)
      var buffer = ByteBuffer(bytes: whole.prefix(length))
      #expect(try parser.next(&buffer) == nil)
      #expect(buffer.readableBytes == length)
    }
  }

  @Test(
    "malformed frames are refused with 1002",
    arguments: [
      FrameBytes.bytes(1, [65], mask: nil), FrameBytes.bytes(1, [65], reserved: 0x40),
      FrameBytes.bytes(2, [], reserved: 0x10),
      FrameBytes.bytes(3, []), FrameBytes.bytes(7, []), FrameBytes.bytes(11, []), FrameBytes.bytes(15, []),
      FrameBytes.bytes(9, [], isFinal: false), FrameBytes.bytes(8, Array(repeating: 0, count: 126)),
      [0x82, 0xfe, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5], [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5],
      [0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
    ])
  func broken(bytes: [UInt8]) {
    #expect { try parse(bytes) } throws: { ($0 as? WebSocketProtocolError)?.code == .protocolError }
  }

  @Test("a too large frame is refused after its head")
  func tooLarge() {
    let head: [UInt8] = [0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]
    #expect { try parse(head) } throws: { ($0 as? WebSocketProtocolError)?.code == .messageTooLarge }
  }

  @Test("fragments are joined, and text is validated as a whole")
  func fragments() throws {
    var assembler = WebSocketMessageAssembler(maximumMessageBytes: 100)
    let bytes = Array("é".utf8)
    #expect(
      try assembler.add(ClientFrame(isFinal: false, opcode: .text, payload: ByteBuffer(bytes: [bytes[0]]))) == nil)
    let message = try assembler.add(
      ClientFrame(isFinal: true, opcode: .continuation, payload: ByteBuffer(bytes: [bytes[1]])))
    #expect(message == .text("é"))
  }

  @Test("fragments out of order are refused")
  func order() throws {
    var assembler = WebSocketMessageAssembler(maximumMessageBytes: 100)
    let part = ClientFrame(isFinal: false, opcode: .text, payload: ByteBuffer())
    #expect(throws: WebSocketProtocolError.self) {
      try assembler.add(ClientFrame(isFinal: true, opcode: .continuation, payload: ByteBuffer()))
    }
    _ = try assembler.add(part)
    #expect(throws: WebSocketProtocolError.self) { try assembler.add(part) }
  }

  @Test("fragments whose sum is too large are refused with 1009")
  func fragmentsTooLarge() throws {
    var assembler = WebSocketMessageAssembler(maximumMessageBytes: 100)
    let part = ByteBuffer(repeating: 0, count: 60)
    _ = try assembler.add(ClientFrame(isFinal: false, opcode: .binary, payload: part))
    #expect { try assembler.add(ClientFrame(isFinal: true, opcode: .continuation, payload: part)) } throws: {
      ($0 as? WebSocketProtocolError)?.code == .messageTooLarge
    }
  }

  @Test(
    "text that is not UTF-8 is refused with 1007",
    arguments: [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80]] as [[UInt8]])
  func badText(bytes: [UInt8]) {
    var assembler = WebSocketMessageAssembler(maximumMessageBytes: 100)
    #expect {
      try assembler.add(ClientFrame(isFinal: true, opcode: .text, payload: ByteBuffer(bytes: bytes)))
    } throws: {
      ($0 as? WebSocketProtocolError)?.code == .dataInconsistentWithMessage
    }
  }

  @Test(
    "invalid close frames are refused",
    arguments: [[3], [0x03, 0xec], [0x03, 0xe7], [0x0b, 0xb7], [3, 232, 0xff]] as [[UInt8]])
  func closure(bytes: [UInt8]) {
    #expect(throws: WebSocketProtocolError.self) { try WebSocketClosure(ByteBuffer(bytes: bytes)) }
  }

  @Test("the accept value equals the specification's example")
  func accept() {
    var request = HTTPRequest(method: .get, scheme: "http", authority: "x", path: "/")
    request.headerFields = [
      .upgrade: "WebSocket", .connection: "keep-alive, Upgrade", .secWebSocketVersion: "13",
      .secWebSocketKey: "dGhlIHNhbXBsZSBub25jZQ==",
    ]
    guard case .accepted(let headers) = WebSocketHandshake.examine(request) else {
      Issue.record("the handshake was refused")
      return
    }
    #expect(headers[.secWebSocketAccept] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
  }

  @Test("random bytes never trap")
  func fuzz() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      let bytes = (0..<Int.random(in: 0..<24, using: &generator)).map { _ in
        UInt8.random(in: .min ... .max, using: &generator)
      }
      _ = try? parse(bytes)
    }
  }
}
