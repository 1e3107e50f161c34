package import Foundation
package import HostAPI
package import Model
import Protos
import SwiftProtobuf

extension HostRPC {
  package func quarantine() async throws -> HostQuarantine {
    let response: Host_Quarantine = try await unary(.getQuarantine, Host_GetQuarantineRequest())
    return try await hostCall { try HostQuarantine(response) }
  }

  package func quarantineSandbox(_ id: SandboxID) async throws {
    let _: Host_Done = try await unary(.quarantineSandbox, Host_SandboxRequest(id))
  }

  package func quarantineSnapshot(_ name: SafeName, team: TeamID, createdAt: Date) async throws {
    let request = Host_QuarantineSnapshotRequest.with {
      $0.name = name.value
      $0.teamID = team.wire
      $0.createdAt = Google_Protobuf_Timestamp(clamping: createdAt)
    }
    let _: Host_Done = try await unary(.quarantineSnapshot, request)
  }

  package func releaseSandbox(_ id: SandboxID, to team: TeamID) async throws -> HostSandbox {
    let request = Host_ReleaseSandboxRequest.with {
      $0.sandboxID = id.wire
      $0.teamID = team.wire
    }
    let response: Host_Sandbox = try await unary(.releaseSandbox, request)
    return try await hostCall { try HostSandbox(response) }
  }

  package func releaseSnapshot(_ id: GenerationID, as name: SafeName, team: TeamID) async throws -> HostTemplate {
    let request = Host_ReleaseSnapshotRequest.with {
      $0.generationID = id.wire
      $0.name = name.value
      $0.teamID = team.wire
    }
    let response: Host_Template = try await unary(.releaseSnapshot, request)
    return try await hostCall { try HostTemplate(response) }
  }

  package func removeQuarantinedSnapshot(_ id: GenerationID) async throws {
    let _: Host_Done = try await unary(
      .removeQuarantinedSnapshot, Host_GenerationRequest.with { $0.generationID = id.wire })
  }
}
