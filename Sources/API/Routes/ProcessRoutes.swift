import ControlPlane
import Foundation
import HostAPI
import Hummingbird
import Model
import NIOCore
import WebSocket

/// `/v1/sandboxes/{id}/exec` and `…/processes`: commands that run to completion or in the background, and the process
/// list.
struct ProcessRoutes {
  static let defaultExecTimeoutSeconds = 30

  let service: SandboxService

  func register(_ routes: RouteRegistrar) {
    routes.post("/sandboxes/:id/exec", exec)
    routes.get("/sandboxes/:id/processes", list)
    routes.delete("/sandboxes/:id/processes/:selector", kill)
  }

  @Sendable private func exec(_ request: Request, _ context: APIContext) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    let fields = try JSONFields(
      try await request.json(),
      allowed: ["cmd", "args", "envs", "cwd", "user", "timeout_sec", "background", "tag"])
    let isBackground = try fields.bool("background") ?? false
    var process = try ProcessRequest(fields: fields)
    if try fields.integer("timeout_sec") == nil, !isBackground {
      process.timeout = .seconds(Self.defaultExecTimeoutSeconds)
    }
    try process.validate()
    if isBackground { return try await start(process, in: id, caller) }
    return try await run(process, in: id, caller, context)
  }

  /// Runs a process to completion. It is killed if the client disconnects, because no other client could find it.
  private func run(
    _ process: ProcessRequest, in id: SandboxID, _ caller: Caller, _ context: APIContext
  ) async throws -> Response {
    let service = service
    let work: @Sendable () async throws -> ExecResult = { try await service.exec(process, in: id, for: caller) }
    let result: ExecResult
    if let watch = await ConnectionWatch.of(context.channel) {
      result = try await watch.cancellingWhenClosed(work)
    } else {
      result = try await work()
    }
    let bytes = JSONWriter.bytes(Self.json(result, process.command, id))
    guard bytes.readableBytes >= LargeResponse.minimumBytes else { return JSONResponse.make(bytes) }
    return Response(
      status: .ok, headers: SecurityHeaders.ofJSON,
      body: LargeResponse.body(bytes, reservation: result.reservation, on: context.channel))
  }

  private func start(_ process: ProcessRequest, in id: SandboxID, _ caller: Caller) async throws -> Response {
    let session = try await service.startProcess(process, in: id, for: caller)
    await session.end(killing: false)
    return JSONResponse.make(
      [
        "sandbox_id": .string(id.wire), "cmd": .string(process.command), "pid": .integer(Int64(session.pid)),
        "tag": .optional(process.tag),
      ], status: .accepted)
  }

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    let processes = try await service.listProcesses(in: context.sandboxID(), for: context.caller())
    return JSONResponse.make(.array(processes.map(Wire.process)))
  }

  @Sendable private func kill(_ request: Request, _ context: APIContext) async throws -> Response {
    let selector = try ProcessSelector(context.parameters.get("selector") ?? "")
    let signal = try request.uri.queryParameters["signal"].map { try Signal.number(String($0)) } ?? Signal.kill
    try await service.signalProcess(selector, signal: signal, in: context.sandboxID(), for: context.caller())
    return JSONResponse.noContent
  }

  /// Encodes the result. Both streams are sent as base64 if either is not UTF-8, or if they are long and JSON escapes
  /// would take more space than base64, as with mebibytes of NUL.
  private static func json(_ result: ExecResult, _ command: String, _ id: SandboxID) -> JSONValue {
    let (output, errors) = (result.standardOutput.readableBytesView, result.standardError.readableBytesView)
    let milliseconds =
      result.duration.components.seconds * 1_000 + result.duration.components.attoseconds / 1_000_000_000_000_000
    let json: JSONValue = [
      "sandbox_id": .string(id.wire), "cmd": .string(command), "exit_code": .integer(Int64(result.exitCode)),
      "duration_ms": .integer(milliseconds),
    ]
    let isLong = output.count + errors.count >= LargeResponse.minimumBytes
    let isShorterAsBase64 =
      isLong
      && JSONWriter.escapedBytes(output) + JSONWriter.escapedBytes(errors) > (output.count + errors.count) / 3 * 4
    if !isShorterAsBase64, let output = String(validating: output, as: UTF8.self),
      let errors = String(validating: errors, as: UTF8.self)
    {
      return json.adding("stdout", .string(output)).adding("stderr", .string(errors))
    }
    return json.adding("stdout", .string(Data(output).base64EncodedString()))
      .adding("stderr", .string(Data(errors).base64EncodedString())).adding("encoding", "base64")
  }
}

extension ProcessRequest {
  /// Reads the fields that all routes for starting a process share; not yet validated.
  init(fields: JSONFields) throws(MartletError) {
    self.init(
      command: try fields.requiredString("cmd"), arguments: try fields.strings("args") ?? [],
      environment: try fields.map("envs") ?? [:], workingDirectory: try fields.string("cwd"),
      user: try fields.string("user"),
      tag: try fields.string("tag"), timeout: try Self.timeout(fields))
  }

  static func timeout(_ fields: JSONFields) throws(MartletError) -> Duration? {
    guard let seconds = try fields.integer("timeout_sec") else { return nil }
    let bounds = Limits.execTimeoutSeconds
    guard bounds.contains(seconds) else {
      throw MartletError(.invalidRequest, "timeout_sec must be between \(bounds.lowerBound) and \(bounds.upperBound)")
    }
    return seconds == 0 ? nil : .seconds(seconds)
  }
}

extension ProcessSelector {
  /// Parses a selector: decimal digits are a pid, other text is a tag.
  /// - Throws: `invalid_request`.
  init(_ text: String) throws(MartletError) {
    let text = text.removingPercentEncoding ?? text
    if !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) {
      guard let pid = UInt32(text), pid > 0 else {
        throw MartletError(.invalidRequest, "a pid must be a number from 1 to 4294967295")
      }
      self = .pid(pid)
      return
    }
    try ProcessRequest.checkTag(text)
    self = .tag(text)
  }
}
