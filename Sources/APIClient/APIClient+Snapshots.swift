import Foundation
package import Model
import NIOHTTP1

extension APIClient {
  // MARK: Pause, resume, fork

  package func pauseSandbox(_ id: SandboxID) async throws -> SandboxResource {
    try await call(.POST, Self.path(id) + "/pause", timeout: Bounds.memoryTimeout)
  }

  /// - Parameter previous: whether to resume from the generation before the latest one.
  package func resumeSandbox(_ id: SandboxID, previous: Bool = false) async throws -> SandboxResource {
    let body = previous ? try encode(["generation": "previous"]) : nil
    return try await call(.POST, Self.path(id) + "/resume", body: body, timeout: Bounds.memoryTimeout)
  }

  /// - Returns: the forks that run; fewer than `count` if some failed.
  package func forkSandbox(_ id: SandboxID, count: Int) async throws -> [SandboxResource] {
    try await call(.POST, Self.path(id) + "/fork", body: encode(["count": count]), timeout: Bounds.memoryTimeout)
  }

  // MARK: Idle time-out

  package func pingSandbox(_ id: SandboxID) async throws {
    try await perform(.POST, Self.path(id) + "/ping")
  }

  package func setTimeout(_ seconds: Int, of id: SandboxID) async throws -> SandboxResource {
    try await call(.POST, Self.path(id) + "/timeout", body: encode(["timeout_sec": seconds]))
  }

  // MARK: Named snapshots

  /// - Parameter name: nil lets the server choose a name.
  package func createSnapshot(
    of id: SandboxID, name: String?, overwrites: Bool = false
  ) async throws -> TemplateResource {
    let body = SnapshotBody(sandboxID: id, name: name)
    return try await call(
      .POST, "/v1/snapshots", query: overwrites ? [("overwrite", "true")] : [], body: encode(body),
      timeout: Bounds.memoryTimeout)
  }

  package func deleteSnapshot(_ name: String) async throws {
    try await perform(.DELETE, "/v1/snapshots/\(percentEncoded(name))")
  }
}

private struct SnapshotBody: Encodable {
  var sandboxID: SandboxID
  var name: String?

  enum CodingKeys: String, CodingKey {
    case name
    case sandboxID = "sandbox_id"
  }
}
