package import Foundation
package import HostAPI
package import Model
import Protos
import SwiftProtobuf

extension HostRPC {
  package func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox {
    try await sandbox(after: .createSandbox, Host_CreateSandboxRequest.with { $0.spec = Host_SandboxSpec(spec) })
  }

  package func destroySandbox(_ id: SandboxID) async throws {
    try await done(after: .destroySandbox, Host_SandboxRequest(id))
  }

  package func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox {
    try await sandbox(after: .pauseSandbox, Host_SandboxRequest(id))
  }

  package func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox {
    let request = Host_ResumeSandboxRequest.with {
      $0.sandboxID = id.wire
      $0.timeoutSeconds = Int64(options.timeoutSeconds)
      $0.usesPreviousGeneration = options.usesPreviousGeneration
    }
    return try await sandbox(after: .resumeSandbox, request)
  }

  package func forkSandbox(
    _ id: SandboxID, into specs: [SandboxSpec]
  ) async throws -> [Result<HostSandbox, MartletError>] {
    let event = try await operation(.forkSandbox, Host_ForkSandboxRequest(id, into: specs))
    return try await hostCall {
      guard case .copies(let copies) = event else { throw MalformedHostMessage("result") }
      return try copies.results()
    }
  }

  package func setTimeout(_ seconds: Int, of id: SandboxID) async throws {
    let request = Host_SetTimeoutRequest.with {
      $0.sandboxID = id.wire
      $0.seconds = Int64(seconds)
    }
    let _: Host_Done = try await unary(.setTimeout, request)
  }

  package func listSandboxes() async throws -> [HostSandbox] {
    let response: Host_ListSandboxesResponse = try await unary(.listSandboxes, Host_ListSandboxesRequest())
    return try await hostCall { try response.sandboxes.map { try HostSandbox($0) } }
  }

  package func sandbox(_ id: SandboxID) async throws -> HostSandbox {
    let response: Host_Sandbox = try await unary(.getSandbox, Host_SandboxRequest(id))
    return try await hostCall { try HostSandbox(response) }
  }

  package func pingSandbox(_ id: SandboxID) async throws {
    let _: Host_Done = try await unary(.pingSandbox, Host_SandboxRequest(id))
  }

  package func metrics(of id: SandboxID) async throws -> GuestMetrics {
    let response: Host_Metrics = try await unary(.getMetrics, Host_SandboxRequest(id))
    return GuestMetrics(response)
  }

  // MARK: - Named snapshots

  package func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate {
    let event = try await operation(.createSnapshot, Host_CreateSnapshotRequest(request))
    return try await hostCall {
      guard case .template(let template) = event else { throw MalformedHostMessage("result") }
      return try HostTemplate(template)
    }
  }

  package func deleteSnapshot(_ name: SafeName, team: TeamID, createdAt: Date?) async throws {
    let request = Host_DeleteSnapshotRequest.with {
      $0.name = name.value
      $0.teamID = team.wire
      if let createdAt { $0.createdAt = Google_Protobuf_Timestamp(clamping: createdAt) }
    }
    try await done(after: .deleteSnapshot, request)
  }

  package func listTemplates(_ kind: HostTemplate.Kind?) async throws -> [HostTemplate] {
    let request = Host_ListTemplatesRequest.with { if let kind { $0.kind = kind.rawValue } }
    let response: Host_ListTemplatesResponse = try await unary(.listTemplates, request)
    return try await hostCall { try response.templates.map { try HostTemplate($0) } }
  }

  // MARK: - Results

  private func sandbox(after method: HostMethod, _ request: some Message) async throws -> HostSandbox {
    let event = try await operation(method, request)
    return try await hostCall {
      guard case .sandbox(let sandbox) = event else { throw MalformedHostMessage("result") }
      return try HostSandbox(sandbox)
    }
  }

  private func done(after method: HostMethod, _ request: some Message) async throws {
    let event = try await operation(method, request)
    try await hostCall {
      guard case .done = event else { throw MalformedHostMessage("result") }
    }
  }
}

extension Host_SandboxRequest {
  init(_ id: SandboxID) {
    self.init()
    sandboxID = id.wire
  }
}
