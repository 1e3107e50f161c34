import Foundation
package import Model
import NIOHTTP1

extension APIClient {
  package func createSandbox(_ request: SandboxRequest) async throws -> SandboxResource {
    try await call(.POST, "/v1/sandboxes", body: encode(request), timeout: Bounds.bootTimeout)
  }

  package func sandbox(_ id: SandboxID) async throws -> SandboxResource {
    try await call(.GET, Self.path(id))
  }

  /// - Parameter status: nil lists all sandboxes except those with the status `stopped` or `error`.
  package func listSandboxes(status: String? = nil) async throws -> [SandboxResource] {
    try await list("/v1/sandboxes", query: status.map { [("status", $0)] } ?? [], of: SandboxResource.self)
  }

  /// Idempotent; throws `not_found` for a sandbox that never existed.
  package func destroySandbox(_ id: SandboxID) async throws {
    try await perform(.DELETE, Self.path(id), timeout: Bounds.bootTimeout)
  }

  package func listProcesses(in id: SandboxID) async throws -> [ProcessResource] {
    try await list(Self.path(id) + "/processes", of: ProcessResource.self)
  }

  /// - Parameter signal: a name such as `SIGINT`.
  package func signalProcess(_ pid: UInt32, _ signal: String, in id: SandboxID) async throws {
    try await perform(.DELETE, "\(Self.path(id))/processes/\(pid)?signal=\(signal)")
  }

  /// Starts a command that continues after the connection has closed.
  package func startBackground(_ start: ExecStart, in id: SandboxID) async throws -> BackgroundProcess {
    let body = BackgroundRequest(
      cmd: start.command, args: start.arguments, envs: start.environment, cwd: start.workingDirectory, user: start.user,
      tag: start.tag)
    return try await call(.POST, Self.path(id) + "/exec", body: encode(body))
  }

  /// Runs a command to completion and collects its output, whose size the server limits.
  package func exec(_ command: String, _ arguments: [String], in id: SandboxID) async throws -> ExecResource {
    try await call(.POST, Self.path(id) + "/exec", body: encode(ExecRequest(cmd: command, args: arguments)))
  }

  /// - Parameter type: `base` for templates, `snapshot` for named snapshots; nil for both.
  package func listTemplates(type: String? = nil) async throws -> [TemplateResource] {
    try await list("/v1/snapshots", query: type.map { [("type", $0)] } ?? [], of: TemplateResource.self)
  }

  static func path(_ id: SandboxID) -> String { "/v1/sandboxes/\(id.wire)" }
}

private struct ExecRequest: Encodable {
  var cmd: String
  var args: [String]
}

private struct BackgroundRequest: Encodable {
  var cmd: String
  var args: [String]
  var envs: [String: String]
  var cwd: String?
  var user: String?
  var tag: String?
  var background = true
}

extension APIClient {
  /// Finds the sandbox that `text` names: a full id, an id without `sb-`, or a prefix of at least 4 hexadecimal digits.
  ///
  /// A full id needs no request.
  /// - Throws: `invalid_input` for other text or an ambiguous prefix, `not_found` if no sandbox matches.
  package func resolveSandbox(_ text: String) async throws -> SandboxID {
    if let id = SandboxID(wire: text) ?? SandboxID(wire: "sb-\(text)") { return id }
    let prefix = text.hasPrefix("sb-") ? String(text.dropFirst(3)) : text
    guard (4..<36).contains(prefix.utf8.count), prefix.utf8.allSatisfy(Self.isIDByte) else {
      throw APIError(
        .invalidInput,
        "'\(text)' is not a sandbox id; give an id such as sb-… or at least its first 4 digits (see `martlet ls`)")
    }
    let matches = try await listSandboxes().map(\.id).filter { $0.uuidString.hasPrefix(prefix) }
    guard let match = matches.first else {
      throw APIError(
        code: ErrorCode.notFound.rawValue,
        message: "no sandbox id begins with '\(prefix)'; see `martlet ls`")
    }
    guard matches.count == 1 else {
      throw APIError(
        .invalidInput, "the ids of \(matches.count) sandboxes begin with '\(prefix)'; give more digits")
    }
    return match
  }

  private static func isIDByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "-"): true
    default: false
    }
  }
}
