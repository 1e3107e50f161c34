import FakeServer
import NIOCore
import NIOWebSocket
import Testing

@testable import WebSocket

@Suite("WebSocket client", .timeLimit(.minutes(1)))
struct ClientWebSocketTests {
  /// Collects the events of a connection to a server that runs `script`.
  private func events(
    configuration: ClientWebSocket.Configuration = .init(),
    script: @escaping @Sendable (FakeSocket) async throws -> Void
  ) async throws -> [ClientWebSocket.Event] {
    try await FakeServer.serving(
      requests: { _ in }, upgrades: { _ in true }, sockets: { _, socket in try await script(socket) }
    ) {
      server in
      let target = ClientWebSocket.Target(host: "127.0.0.1", port: server.port, uri: "/")
      return try await ClientWebSocket.withConnection(to: target, configuration: configuration) { socket in
        // The server may have closed the connection already; the events contain the reason.
        try? await socket.send(.text("hello"))
        var events: [ClientWebSocket.Event] = []
        for try await event in socket.inbound { events.append(event) }
        return events
      }
    }
  }

  @Test("fragments become one message, and a ping between them gets a pong")
  func fragments() async throws {
    let events = try await events { socket in
      _ = try await socket.nextData()
      try await socket.send(WebSocketFrame(fin: false, opcode: .text, data: ByteBuffer(string: "one ")))
      try await socket.send(WebSocketFrame(fin: true, opcode: .ping, data: ByteBuffer(string: "?")))
      let pong = try await socket.next()
      #expect(pong?.opcode == .pong)
      #expect(pong?.maskKey != nil)
      #expect(pong.map { Array($0.unmaskedData.readableBytesView) } == Array("?".utf8))
      try await socket.send(WebSocketFrame(fin: true, opcode: .continuation, data: ByteBuffer(string: "two")))
      try await socket.close(code: 1000)
    }
    #expect(events == [.message(.text("one two")), .closed(code: 1000, reason: "")])
  }

  @Test("the client's frames are masked")
  func masked() async throws {
    _ = try await events { socket in
      #expect(try await socket.nextData()?.maskKey != nil)
      try await socket.close(code: 1001)
    }
  }

  @Test("a connection without a close frame is lost")
  func lost() async {
    await #expect(throws: ClientWebSocketError.connectionLost) { try await events { try await $0.abort() } }
  }

  @Test("a server that sends no pongs counts as lost")
  func silent() async {
    var configuration = ClientWebSocket.Configuration()
    configuration.pingInterval = .milliseconds(50)
    await #expect(throws: ClientWebSocketError.connectionLost) {
      try await events(configuration: configuration) { _ in try await Task.sleep(for: .seconds(20)) }
    }
  }

  @Test("a frame above the bound ends the connection with 1009")
  func tooLarge() async {
    var configuration = ClientWebSocket.Configuration()
    configuration.maximumFrameBytes = 1024
    await #expect(throws: ClientWebSocketError.self) {
      try await events(configuration: configuration) { socket in
        try await socket.send([UInt8](repeating: 0, count: 2048))
        while let frame = try await socket.next() {
          guard frame.opcode == .connectionClose else { continue }
          var payload = frame.unmaskedData
          #expect(payload.readInteger(as: UInt16.self) == 1009)
          return
        }
      }
    }
  }

  @Test("a server that never responds to the upgrade times out")
  func slowUpgrade() async throws {
    var configuration = ClientWebSocket.Configuration()
    configuration.upgradeTimeout = .milliseconds(100)
    let bounded = configuration
    await #expect(throws: ClientWebSocketError.self) {
      try await FakeServer.serving(requests: { _ in try await Task.sleep(for: .seconds(20)) }) { server in
        let target = ClientWebSocket.Target(host: "127.0.0.1", port: server.port, uri: "/")
        try await ClientWebSocket.withConnection(to: target, configuration: bounded) { _ in }
      }
    }
  }
}

@Suite("WebSocket client state")
struct ClientWebSocketStateMachineTests {
  private func frame(_ opcode: WebSocketOpcode, _ bytes: [UInt8] = [], fin: Bool = true) -> WebSocketFrame {
    WebSocketFrame(fin: fin, opcode: opcode, data: ByteBuffer(bytes: bytes))
  }

  private func isFailure(_ action: ClientWebSocketStateMachine.Action, code: UInt16) -> Bool {
    if case .fail(_, code) = action { return true }
    return false
  }

  @Test("a masked frame, a reserved bit and an unknown opcode are violations")
  func violations() {
    var masked = frame(.text)
    masked.maskKey = [1, 2, 3, 4]
    var reserved = frame(.text)
    reserved.rsv1 = true
    for bad in [masked, reserved, frame(WebSocketOpcode(encodedWebSocketOpcode: 3) ?? .text)] {
      var machine = ClientWebSocketStateMachine(maximumMessageBytes: 10)
      #expect(isFailure(machine.receive(bad), code: 1002))
      #expect(machine.state == .closed)
    }
  }

  @Test("a continuation without a start and a message within a message are violations")
  func order() {
    var machine = ClientWebSocketStateMachine(maximumMessageBytes: 10)
    #expect(isFailure(machine.receive(frame(.continuation)), code: 1002))
    machine = ClientWebSocketStateMachine(maximumMessageBytes: 10)
    #expect(machine.receive(frame(.binary, [1], fin: false)) == .none)
    #expect(isFailure(machine.receive(frame(.text)), code: 1002))
  }

  @Test("fragments together may not exceed the bound")
  func bound() {
    var machine = ClientWebSocketStateMachine(maximumMessageBytes: 4)
    #expect(machine.receive(frame(.binary, [1, 2, 3], fin: false)) == .none)
    #expect(isFailure(machine.receive(frame(.continuation, [4, 5])), code: 1009))
  }

  @Test("text that is not UTF-8 is refused with 1007")
  func text() {
    var machine = ClientWebSocketStateMachine(maximumMessageBytes: 10)
    #expect(isFailure(machine.receive(frame(.text, [0xFF])), code: 1007))
  }

  @Test("a close frame gets one close frame, and a malformed one is a violation")
  func close() {
    var machine = ClientWebSocketStateMachine(maximumMessageBytes: 10)
    #expect(
      machine.receive(frame(.connectionClose, [3, 232, 104, 105])) == .closed(code: 1000, reason: "hi", reply: true))
    #expect(machine.receive(frame(.text, [65])) == .none)
    machine = ClientWebSocketStateMachine(maximumMessageBytes: 10)
    let (first, second) = (machine.beginClose(), machine.beginClose())
    #expect(first && !second)
    #expect(machine.receive(frame(.connectionClose)) == .closed(code: nil, reason: "", reply: false))
    machine = ClientWebSocketStateMachine(maximumMessageBytes: 10)
    #expect(isFailure(machine.receive(frame(.connectionClose, [3])), code: 1002))
  }
}
