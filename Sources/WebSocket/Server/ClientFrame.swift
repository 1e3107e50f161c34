import NIOCore
package import NIOWebSocket

/// One frame from a client, unmasked.
struct ClientFrame: Equatable {
  enum Opcode: UInt8 {
    case continuation = 0
    case text = 1
    case binary = 2
    case close = 8
    case ping = 9
    case pong = 10

    var isControl: Bool { rawValue >= 8 }
  }

  var isFinal: Bool
  var opcode: Opcode
  var payload: ByteBuffer
}

/// A violation of RFC 6455 by the peer. The connection is closed with `code`.
package struct WebSocketProtocolError: Error, Equatable {
  package var code: WebSocketErrorCode
  package var reason: String

  package init(_ code: WebSocketErrorCode, _ reason: String) {
    self.code = code
    self.reason = reason
  }
}

/// Splits a byte stream into client frames.
///
/// Refused with 1002: reserved bits, reserved opcodes, frames without a mask, control frames that are fragmented or
/// longer than 125 bytes, lengths that are not encoded in their shortest form. Refused with 1009 before the payload is
/// read: frames above `maximumPayloadBytes`.
///
/// Source: RFC 6455, section 5.2
struct WebSocketFrameParser {
  let maximumPayloadBytes: Int

  /// - Returns: nil when `buffer` does not contain a complete frame; nothing is consumed then.
  mutating func next(_ buffer: inout ByteBuffer) throws(WebSocketProtocolError) -> ClientFrame? {
    var view = buffer
    guard let first: UInt8 = view.readInteger(), let second: UInt8 = view.readInteger() else { return nil }
    let opcode = try Self.opcode(first)
    guard second & 0x80 != 0 else { throw WebSocketProtocolError(.protocolError, "client frames must be masked") }
    guard let length = try Self.length(second & 0x7f, &view) else { return nil }
    let isFinal = first & 0x80 != 0
    guard !opcode.isControl || (isFinal && length <= 125) else {
      throw WebSocketProtocolError(.protocolError, "control frames must be unfragmented and short")
    }
    guard length <= maximumPayloadBytes else {
      throw WebSocketProtocolError(.messageTooLarge, "a frame may have at most \(maximumPayloadBytes) bytes")
    }
    guard let mask = view.readBytes(length: 4), var payload = view.readSlice(length: Int(length)) else { return nil }
    if let key = WebSocketMaskingKey(mask) { payload.webSocketUnmask(key) }
    buffer = view
    return ClientFrame(isFinal: isFinal, opcode: opcode, payload: payload)
  }

  private static func opcode(_ byte: UInt8) throws(WebSocketProtocolError) -> ClientFrame.Opcode {
    guard byte & 0x70 == 0 else { throw WebSocketProtocolError(.protocolError, "reserved bits must be zero") }
    guard let opcode = ClientFrame.Opcode(rawValue: byte & 0x0f) else {
      throw WebSocketProtocolError(.protocolError, "the opcode is reserved")
    }
    return opcode
  }

  private static func length(_ short: UInt8, _ view: inout ByteBuffer) throws(WebSocketProtocolError) -> UInt64? {
    let length: UInt64
    let shortest: UInt64
    switch short {
    case 126:
      guard let value: UInt16 = view.readInteger() else { return nil }
      (length, shortest) = (UInt64(value), 126)
    case 127:
      guard let value: UInt64 = view.readInteger() else { return nil }
      (length, shortest) = (value, 65_536)
    default:
      return UInt64(short)
    }
    guard length >= shortest, length <= UInt64(Int64.max) else {
      throw WebSocketProtocolError(.protocolError, "the length is not in its shortest form")
    }
    return length
  }
}

/// The head of an unmasked server frame.
enum WebSocketFrameHead {
  static func bytes(_ opcode: ClientFrame.Opcode, payloadBytes: Int) -> ByteBuffer {
    var head = ByteBuffer()
    head.writeInteger(0x80 | opcode.rawValue)
    switch payloadBytes {
    case ..<126:
      head.writeInteger(UInt8(payloadBytes))
    case ..<65_536:
      head.writeInteger(UInt8(126))
      head.writeInteger(UInt16(payloadBytes))
    default:
      head.writeInteger(UInt8(127))
      head.writeInteger(UInt64(payloadBytes))
    }
    return head
  }
}
