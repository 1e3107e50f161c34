import ControlPlane
import Foundation
import HostAPI
import Model

/// The first message of a stream: the process to start or to attach to.
struct StreamOpening: Sendable {
  enum Subject: Sendable {
    case start(ProcessRequest)
    case attach(ProcessSelector)
  }

  var subject: Subject
  /// Whether the process continues when the client disconnects.
  var isDetached: Bool
  /// Whether output is sent as binary frames with one leading byte: 1 standard output, 2 standard error, 3 terminal.
  var isBinary: Bool

  init(subject: Subject, isDetached: Bool, isBinary: Bool) {
    self.subject = subject
    self.isDetached = isDetached
    self.isBinary = isBinary
  }

  /// - Throws: `invalid_request`.
  init(_ text: String, _ dialect: StreamDialect) throws(MartletError) {
    let json = try JSONParser.parse(text.utf8)
    switch dialect {
    case .exec: self = try Self.exec(json)
    case .terminal: self = try Self.terminal(json)
    }
  }

  private static func exec(_ json: JSONValue) throws(MartletError) -> StreamOpening {
    let fields = try JSONFields(
      json,
      allowed: [
        "type", "cmd", "args", "envs", "cwd", "user", "stdin", "pty", "detached", "tag", "timeout_sec", "binary",
      ])
    guard try fields.requiredString("type") == "start" else {
      throw MartletError(.invalidRequest, "the first message must have the type start")
    }
    var request = try ProcessRequest(fields: fields)
    request.hasStandardInput = try fields.bool("stdin") ?? false
    if let terminal = try fields.object("pty", allowed: ["cols", "rows"]) {
      request.terminal = try StreamDialect.size(terminal)
    }
    try request.validate()
    return StreamOpening(
      subject: .start(request), isDetached: try fields.bool("detached") ?? false,
      isBinary: try fields.bool("binary") ?? false)
  }

  private static func terminal(_ json: JSONValue) throws(MartletError) -> StreamOpening {
    let fields = try JSONFields(
      json,
      allowed: [
        "type", "cmd", "args", "envs", "cwd", "user", "cols", "rows", "detached", "tag", "pid", "timeout_sec", "binary",
      ])
    let isBinary = try fields.bool("binary") ?? false
    switch try fields.requiredString("type") {
    case "start":
      let request = try terminalRequest(fields)
      return StreamOpening(
        subject: .start(request), isDetached: try fields.bool("detached") ?? false, isBinary: isBinary)
    case "connect":
      let pid = try fields.scalar("pid")
      let tag = try fields.string("tag")
      guard let text = pid ?? tag else {
        throw MartletError(.invalidRequest, "connect needs a tag or a pid")
      }
      return StreamOpening(subject: .attach(try ProcessSelector(text)), isDetached: true, isBinary: isBinary)
    default:
      throw MartletError(.invalidRequest, "the first message must have the type start or connect")
    }
  }

  private static func terminalRequest(_ fields: JSONFields) throws(MartletError) -> ProcessRequest {
    var environment = try fields.map("envs") ?? [:]
    if environment["TERM"] == nil { environment["TERM"] = "xterm-256color" }
    let command = try fields.string("cmd")
    let request = ProcessRequest(
      command: command ?? "/bin/sh", arguments: try fields.strings("args") ?? (command == nil ? loginShell : []),
      environment: environment, workingDirectory: try fields.string("cwd"), user: try fields.string("user"),
      hasStandardInput: true, terminal: try StreamDialect.size(fields),
      tag: try fields.string("tag") ?? "pty-\(UUID().uuidString.lowercased())",
      timeout: try ProcessRequest.timeout(fields))
    try request.validate()
    return request
  }

  /// Starts bash if the image has it, else sh.
  private static let loginShell = ["-c", "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi"]
}
