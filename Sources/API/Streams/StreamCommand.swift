import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import WebSocket

/// A client's message to a running process, independent of the stream's dialect.
enum StreamCommand: Equatable {
  case input(ByteBuffer)
  case endOfInput
  case resize(TerminalSize)
  case signal(Int32)
  /// Ends the stream and kills the process, unless it is detached.
  case stop
  case kill
}

/// Message types of the routes `exec/stream` and `pty`.
enum StreamDialect: Sendable {
  case exec
  case terminal

  /// - Throws: `invalid_request`.
  func command(_ message: WebSocketMessage) throws(MartletError) -> StreamCommand {
    switch message {
    case .binary(let bytes): return .input(bytes)
    case .text(let text): return try command(text)
    }
  }

  func started(pid: UInt32, tag: String?) -> JSONValue {
    switch self {
    case .exec:
      JSONValue.object([.init("type", "start"), .init("pid", .integer(Int64(pid)))]).adding(
        "tag", tag.map(JSONValue.string))
    case .terminal: ["type": "started", "tag": .optional(tag), "pid": .integer(Int64(pid))]
    }
  }

  func outputType(_ stream: ProcessEvent.OutputStream) -> String {
    switch (self, stream) {
    case (.exec, .standardError): "stderr"
    case (.exec, _): "stdout"
    case (.terminal, _): "output"
    }
  }

  private func command(_ text: String) throws(MartletError) -> StreamCommand {
    let json = try JSONParser.parse(text.utf8)
    let fields = try JSONFields(json, allowed: ["type", "data", "eof", "cols", "rows", "signal"])
    switch (self, try fields.requiredString("type")) {
    case (.exec, "stdin"), (.terminal, "input"): return try Self.input(fields)
    case (_, "resize"): return .resize(try Self.size(fields))
    case (_, "signal"):
      guard let signal = try fields.scalar("signal") else { throw MartletError(.invalidRequest, "signal is required") }
      return .signal(try Signal.number(signal))
    case (_, "stop"): return .stop
    case (_, "kill"): return .kill
    default:
      let known = self == .exec ? "stdin, resize, signal, stop, kill" : "input, resize, signal, stop, kill"
      throw MartletError(.invalidRequest, "type must be one of \(known)")
    }
  }

  private static func input(_ fields: JSONFields) throws(MartletError) -> StreamCommand {
    if try fields.bool("eof") == true { return .endOfInput }
    guard let data = Data(base64Encoded: try fields.requiredString("data")) else {
      throw MartletError(.invalidRequest, "data must be valid base64")
    }
    return .input(ByteBuffer(bytes: data))
  }

  static func size(_ fields: JSONFields) throws(MartletError) -> TerminalSize {
    let size = TerminalSize(columns: try fields.integer("cols") ?? 80, rows: try fields.integer("rows") ?? 24)
    try ProcessRequest.check(size)
    return size
  }
}
