import Concurrency
import Foundation
import NIOCore
import NIOWebSocket

/// Runs one command of `exec/stream`.
struct FakeExecSession {
  let server: FakeMartlet
  let socket: FakeSocket

  private struct Start: Decodable {
    struct Terminal: Decodable {
      var cols: Int
      var rows: Int
    }
    var type: String
    var cmd: String
    var args: [String]
    var envs: [String: String]
    var pty: Terminal?
    var binary: Bool
  }

  private struct Control: Decodable {
    var type: String
    var eof: Bool?
    var signal: String?
  }

  func run() async throws {
    guard let first = try await socket.nextData() else { return }
    let start = try JSONDecoder().decode(Start.self, from: Data(first.unmaskedData.readableBytesView))
    server.state.withLock { $0.commands.append([start.cmd] + start.args) }
    try await socket.send(#"{"type":"start","pid":99}"#)
    switch start.cmd {
    case "cat": try await cat()
    case "all-bytes": try await allBytes()
    case "exit": try await exit(Int32(start.args.first ?? "") ?? 0)
    case "echo": try await finish(1, start.args.joined(separator: " ") + "\n")
    case "stderr": try await finish(2, start.args.joined(separator: " "))
    case "size": try await finish(3, start.pty.map { "\($0.cols)x\($0.rows)" } ?? "none")
    case "environment": try await finish(1, start.envs[start.args.first ?? ""] ?? "unset")
    case "wait": try await wait(dyingOf: ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
    case "stubborn": try await wait(dyingOf: ["SIGKILL"])
    case "deaf": try await deaf()
    case "break": try await socket.abort()
    case "fail":
      try await socket.send(#"{"type":"error","code":"agent_error","message":"the guest agent does not respond"}"#)
    default: try await exit(127)
    }
    try? await socket.close(code: 1000)
  }

  private func cat() async throws {
    while let frame = try await socket.nextData() {
      switch frame.opcode {
      case .binary: try await socket.send([1] + Array(frame.unmaskedData.readableBytesView))
      case .text:
        if try control(frame).eof == true { return try await exit(0) }
      default: return
      }
    }
  }

  /// Sends all byte values, split in the middle of characters and escapes.
  private func allBytes() async throws {
    for start in stride(from: 0, to: 256, by: 50) {
      try await socket.send([1] + (start..<min(start + 50, 256)).map { UInt8($0) })
    }
    try await exit(0)
  }

  private func wait(dyingOf signals: [String]) async throws {
    let numbers = ["SIGINT": 2, "SIGTERM": 15, "SIGHUP": 1, "SIGKILL": 9]
    try await socket.send([1] + Array("ready\n".utf8))
    while let frame = try await socket.nextData() {
      guard frame.opcode == .text else { continue }
      guard let signal = try control(frame).signal, signals.contains(signal), let number = numbers[signal] else {
        continue
      }
      return try await socket.send(#"{"type":"exit","exit_code":\#(128 + number),"signal":\#(number)}"#)
    }
  }

  /// Reads one piece of input and then no more. Still receives control frames.
  private func deaf() async throws {
    _ = try await socket.nextData()
    server.state.withLock { $0.isDeaf = true }
    while server.state.withLock({ $0.controls.isEmpty }) { try await Task.sleep(for: .milliseconds(5)) }
    try await socket.send(#"{"type":"exit","exit_code":143,"signal":15}"#)
  }

  private func control(_ frame: WebSocketFrame) throws -> Control {
    let data = Data(frame.unmaskedData.readableBytesView)
    server.state.withLock { $0.controls.append(String(decoding: data, as: UTF8.self)) }
    return try JSONDecoder().decode(Control.self, from: data)
  }

  private func finish(_ stream: UInt8, _ text: String) async throws {
    try await socket.send([stream] + Array(text.utf8))
    try await exit(0)
  }

  private func exit(_ code: Int32) async throws {
    try await socket.send(#"{"type":"exit","exit_code":\#(code)}"#)
  }
}
