import NIOCore
import NIOWebSocket

/// Interprets the frames of the server. Holds the fragments of one message and the state of the close handshake.
///
/// ```
/// open ──client closes──▶ closeSent ──server closes──▶ closed
///   └────server closes (answered) or fails───────────────▲
/// ```
struct ClientWebSocketStateMachine {
  enum Action: Equatable {
    case none
    case deliver(ClientWebSocket.Message)
    case pong(ByteBuffer)
    /// The server's close frame; `reply` says whether the client must still send its own.
    case closed(code: UInt16?, reason: String, reply: Bool)
    /// The server violated the protocol: send a close frame with this code, then report the error.
    case fail(ClientWebSocketError, code: UInt16)
  }

  enum State { case open, closeSent, closed }

  private(set) var state = State.open
  private var fragment: (isText: Bool, payload: ByteBuffer)?
  private let maximumMessageBytes: Int

  init(maximumMessageBytes: Int) {
    self.maximumMessageBytes = maximumMessageBytes
  }

  /// Whether the client may send its close frame now.
  mutating func beginClose() -> Bool {
    guard state == .open else { return false }
    state = .closeSent
    return true
  }

  mutating func end() {
    state = .closed
    fragment = nil
  }

  mutating func receive(_ frame: WebSocketFrame) -> Action {
    guard state != .closed else { return .none }
    guard frame.maskKey == nil else { return violation("the server sent a masked frame") }
    guard !frame.rsv1, !frame.rsv2, !frame.rsv3 else { return violation("the server set a reserved bit") }
    switch frame.opcode {
    case .ping: return state == .open ? .pong(frame.unmaskedData) : .none
    case .pong: return .none
    case .connectionClose: return receiveClose(frame.unmaskedData)
    case .text: return receiveFirst(frame, isText: true)
    case .binary: return receiveFirst(frame, isText: false)
    case .continuation: return receiveContinuation(frame)
    default: return violation("the server sent an unknown kind of frame")
    }
  }

  private mutating func receiveClose(_ payload: ByteBuffer) -> Action {
    let reply = state == .open
    end()
    var payload = payload
    guard payload.readableBytes > 0 else { return .closed(code: nil, reason: "", reply: reply) }
    guard let code = payload.readInteger(as: UInt16.self), let reason = payload.readValidText() else {
      return .fail(.protocolViolation("the server sent a malformed close frame"), code: 1002)
    }
    return .closed(code: code, reason: reason, reply: reply)
  }

  private mutating func receiveFirst(_ frame: WebSocketFrame, isText: Bool) -> Action {
    guard fragment == nil else { return violation("the server began a message inside another") }
    guard !frame.fin else { return complete(frame.unmaskedData, isText: isText) }
    fragment = (isText, frame.unmaskedData)
    return .none
  }

  private mutating func receiveContinuation(_ frame: WebSocketFrame) -> Action {
    guard let (isText, start) = fragment else { return violation("the server continued a message that it never began") }
    fragment = nil
    var payload = start
    var more = frame.unmaskedData
    guard payload.readableBytes + more.readableBytes <= maximumMessageBytes else { return tooLarge() }
    payload.writeBuffer(&more)
    guard !frame.fin else { return complete(payload, isText: isText) }
    fragment = (isText, payload)
    return .none
  }

  private mutating func complete(_ payload: ByteBuffer, isText: Bool) -> Action {
    // Data that arrives after the client's close frame is dropped.
    guard state == .open else { return .none }
    guard payload.readableBytes <= maximumMessageBytes else { return tooLarge() }
    guard isText else { return .deliver(.binary(payload)) }
    var payload = payload
    guard let text = payload.readValidText() else {
      end()
      return .fail(.protocolViolation("the server sent text that is not UTF-8"), code: 1007)
    }
    return .deliver(.text(text))
  }

  private mutating func violation(_ sentence: String) -> Action {
    end()
    return .fail(.protocolViolation(sentence), code: 1002)
  }

  private mutating func tooLarge() -> Action {
    end()
    return .fail(.messageTooLarge(limitBytes: maximumMessageBytes), code: 1009)
  }
}

extension ByteBuffer {
  /// All readable bytes as text; nil when they are not valid UTF-8.
  fileprivate mutating func readValidText() -> String? {
    String(validating: readableBytesView, as: UTF8.self)
  }
}
