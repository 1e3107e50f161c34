import Foundation
import Model
package import NIOCore

/// The first message of `exec/stream`: the command to run.
package struct ExecStart: Sendable, Equatable {
  package struct Terminal: Codable, Sendable, Equatable {
    package var cols: Int
    package var rows: Int

    package init(cols: Int, rows: Int) {
      self.cols = cols
      self.rows = rows
    }
  }

  package var command: String
  package var arguments: [String]
  package var environment: [String: String]
  package var workingDirectory: String?
  package var user: String?
  /// Whether the client will write to standard input; if false, the command reads /dev/null.
  package var hasInput: Bool
  package var terminal: Terminal?
  package var tag: String?
  /// Time-out of the command; 0 for none.
  package var timeoutSeconds: Int

  package init(
    command: String, arguments: [String] = [], environment: [String: String] = [:], workingDirectory: String? = nil,
    user: String? = nil, hasInput: Bool = true, terminal: Terminal? = nil, tag: String? = nil, timeoutSeconds: Int = 0
  ) {
    self.command = command
    self.arguments = arguments
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.user = user
    self.hasInput = hasInput
    self.terminal = terminal
    self.tag = tag
    self.timeoutSeconds = timeoutSeconds
  }
}

package struct ExecExit: Sendable, Equatable {
  /// Exit code; 128 + the signal's number if a signal ended the command.
  package var exitCode: Int32
  package var signal: Int32?

  package init(exitCode: Int32, signal: Int32?) {
    self.exitCode = exitCode
    self.signal = signal
  }
}

package enum ExecEvent: Sendable, Equatable {
  package enum Stream: UInt8, Sendable {
    case standardOutput = 1
    case standardError = 2
    case terminal = 3
  }

  case started(pid: UInt32)
  case output(Stream, ByteBuffer)
  /// A request (`resize`, `signal`, `kill`) did not reach the command, which goes on.
  case controlFailed(request: String, message: String)
  /// Always the last one.
  case exited(ExecExit)
}

/// Encodes and decodes the messages of `exec/stream`. The first byte of a binary message names the stream.
enum ExecCodec {
  private struct StartFrame: Encodable {
    var type = "start"
    var cmd: String
    var args: [String]
    var envs: [String: String]
    var cwd: String?
    var user: String?
    var stdin: Bool
    var pty: ExecStart.Terminal?
    var tag: String?
    var timeoutSeconds: Int
    var binary = true

    enum CodingKeys: String, CodingKey {
      case type, cmd, args, envs, cwd, user, stdin, pty, tag, binary
      case timeoutSeconds = "timeout_sec"
    }
  }

  /// The client's messages after the first one.
  struct ControlFrame: Encodable {
    var type: String
    var eof: Bool?
    var cols: Int?
    var rows: Int?
    var signal: String?
  }

  private struct EventFrame: Decodable {
    var type: String
    var pid: UInt32?
    var exitCode: Int32?
    var signal: SignalField?
    var request: String?
    var code: String?
    var message: String?

    enum CodingKeys: String, CodingKey {
      case type, pid, signal, request, code, message
      case exitCode = "exit_code"
    }
  }

  /// A signal, which the server may give by number or by name.
  private enum SignalField: Decodable {
    case number(Int32)
    case name(String)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let number = try? container.decode(Int32.self) {
        self = .number(number)
        return
      }
      self = .name(try container.decode(String.self))
    }
  }

  static func encode(_ start: ExecStart) throws -> String {
    try text(
      StartFrame(
        cmd: start.command, args: start.arguments, envs: start.environment, cwd: start.workingDirectory,
        user: start.user,
        stdin: start.hasInput, pty: start.terminal, tag: start.tag, timeoutSeconds: start.timeoutSeconds))
  }

  static func encode(_ control: ControlFrame) throws -> String { try text(control) }

  static func decode(binary frame: ByteBuffer) throws(APIError) -> ExecEvent {
    var frame = frame
    guard let tag = frame.readInteger(as: UInt8.self), let stream = ExecEvent.Stream(rawValue: tag) else {
      throw APIError(.badResponse, "the server sent output of an unknown stream; update the client")
    }
    return .output(stream, frame)
  }

  /// Returns nil for message types that this client does not know.
  static func decode(text: String) throws(APIError) -> ExecEvent? {
    let frame: EventFrame
    do {
      frame = try JSONDecoder().decode(EventFrame.self, from: Data(text.utf8))
    } catch {
      throw APIError(.badResponse, "the server sent a message that does not match the API")
    }
    switch (frame.type, frame.pid, frame.exitCode) {
    case ("start", let pid?, _): return .started(pid: pid)
    case ("exit", _, let code?): return .exited(exit(code, frame.signal))
    case ("control_error", _, _):
      return .controlFailed(
        request: frame.request ?? "request",
        message: frame.message ?? "the server reported an error without a message")
    case ("error", _, _):
      throw APIError(
        code: frame.code ?? ErrorCode.internalError.rawValue,
        message: frame.message ?? "the server reported an error without a message")
    case ("start", _, _), ("exit", _, _):
      throw APIError(.badResponse, "the server sent an incomplete \(frame.type) message")
    default: return nil
    }
  }

  private static func exit(_ code: Int32, _ signal: SignalField?) -> ExecExit {
    let number: Int32? =
      switch signal {
      case .number(let number): number
      case .name(let name): SignalName.number(of: name)
      case nil: nil
      }
    return ExecExit(exitCode: code, signal: number)
  }

  private static func text(_ frame: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.withoutEscapingSlashes, .sortedKeys]
    return String(decoding: try encoder.encode(frame), as: UTF8.self)
  }
}
