package import NIOCore
import NIOWebSocket

/// A complete message, reassembled from its fragments.
package enum WebSocketMessage: Sendable, Equatable {
  case text(String)
  case binary(ByteBuffer)

  var byteCount: Int {
    switch self {
    case .text(let text): text.utf8.count
    case .binary(let bytes): bytes.readableBytes
    }
  }
}

/// Reassembles messages from data frames, up to a size limit.
struct WebSocketMessageAssembler {
  let maximumMessageBytes: Int
  private var opcode: ClientFrame.Opcode?
  private var collected = ByteBuffer()

  init(maximumMessageBytes: Int) {
    self.maximumMessageBytes = maximumMessageBytes
  }

  /// - Parameter frame: not a control frame.
  /// - Returns: the message that `frame` completes.
  mutating func add(_ frame: ClientFrame) throws(WebSocketProtocolError) -> WebSocketMessage? {
    switch (opcode, frame.opcode) {
    case (nil, .continuation): throw WebSocketProtocolError(.protocolError, "there is nothing to continue")
    case (.some, .text), (.some, .binary):
      throw WebSocketProtocolError(.protocolError, "the message before is not complete")
    case (nil, let first): opcode = first
    default: break
    }
    guard collected.readableBytes + frame.payload.readableBytes <= maximumMessageBytes else {
      throw WebSocketProtocolError(.messageTooLarge, "a message may have at most \(maximumMessageBytes) bytes")
    }
    if frame.isFinal, collected.readableBytes == 0 {
      collected = frame.payload
    } else {
      collected.writeImmutableBuffer(frame.payload)
    }
    return frame.isFinal ? try finish() : nil
  }

  private mutating func finish() throws(WebSocketProtocolError) -> WebSocketMessage {
    let (kind, bytes) = (opcode, collected)
    opcode = nil
    collected = ByteBuffer()
    guard kind == .text else { return .binary(bytes) }
    guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
      throw WebSocketProtocolError(.dataInconsistentWithMessage, "a text message must be UTF-8")
    }
    return .text(text)
  }
}

/// Content of a close frame. Source: RFC 6455, sections 5.5.1 and 7.4
struct WebSocketClosure: Equatable {
  static let maximumReasonBytes = 123

  var code: UInt16?
  var reason: String

  init(code: UInt16?, reason: String = "") {
    self.code = code
    self.reason = reason
  }

  init(_ payload: ByteBuffer) throws(WebSocketProtocolError) {
    var payload = payload
    guard payload.readableBytes > 0 else {
      self.init(code: nil)
      return
    }
    guard let code: UInt16 = payload.readInteger(), Self.isAllowed(code),
      let reason = String(validating: payload.readableBytesView, as: UTF8.self)
    else { throw WebSocketProtocolError(.protocolError, "the close frame is malformed") }
    self.init(code: code, reason: reason)
  }

  var payload: ByteBuffer {
    var payload = ByteBuffer()
    guard let code else { return payload }
    payload.writeInteger(code)
    var reason = reason
    while reason.utf8.count > Self.maximumReasonBytes { reason.removeLast() }
    payload.writeString(reason)
    return payload
  }

  private static func isAllowed(_ code: UInt16) -> Bool {
    switch code {
    case 1000...1003, 1007...1014, 3000...4999: true
    default: false
    }
  }
}
