import ConnectServer
import HostAPI
import Model
import Protos
import SwiftProtobuf

extension HostRoutes {
  func registerQuarantine(on router: ConnectRouter<BasicConnectRequestContext>) {
    let host = host
    unary(.getQuarantine, on: router) { (_: Host_GetQuarantineRequest) in
      Host_Quarantine(try await host.quarantine())
    }
    unary(.quarantineSandbox, on: router) { (request: Host_SandboxRequest) in
      try await host.quarantineSandbox(request.id())
      return Host_Done()
    }
    unary(.quarantineSnapshot, on: router) { (request: Host_QuarantineSnapshotRequest) in
      guard request.hasCreatedAt else { throw MalformedHostMessage("created_at") }
      try await host.quarantineSnapshot(
        WireField.name(request.name, "name"), team: WireField.id(request.teamID, "team_id"),
        createdAt: request.createdAt.clampedDate)
      return Host_Done()
    }
    unary(.releaseSandbox, on: router) { (request: Host_ReleaseSandboxRequest) in
      Host_Sandbox(
        try await host.releaseSandbox(
          WireField.id(request.sandboxID, "sandbox_id"), to: WireField.id(request.teamID, "team_id")))
    }
    unary(.releaseSnapshot, on: router) { (request: Host_ReleaseSnapshotRequest) in
      Host_Template(
        try await host.releaseSnapshot(
          WireField.id(request.generationID, "generation_id"), as: WireField.name(request.name, "name"),
          team: WireField.id(request.teamID, "team_id")))
    }
    unary(.removeQuarantinedSnapshot, on: router) { (request: Host_GenerationRequest) in
      try await host.removeQuarantinedSnapshot(WireField.id(request.generationID, "generation_id"))
      return Host_Done()
    }
  }
}
