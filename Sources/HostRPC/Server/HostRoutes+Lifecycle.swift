import Connect
import ConnectServer
import HostAPI
import Model
import Protos
import SwiftProtobuf

extension HostRoutes {
  func registerLifecycle(on router: ConnectRouter<BasicConnectRequestContext>) {
    let host = host
    operation(.createSandbox, on: router) { (request: Host_CreateSandboxRequest) in
      .report(try await host.createSandbox(SandboxSpec(request.spec)))
    }
    operation(.destroySandbox, on: router) { (request: Host_SandboxRequest) in
      try await host.destroySandbox(request.id())
      return .finished
    }
    operation(.pauseSandbox, on: router) { (request: Host_SandboxRequest) in
      .report(try await host.pauseSandbox(request.id()))
    }
    operation(.resumeSandbox, on: router) { (request: Host_ResumeSandboxRequest) in
      let options = ResumeOptions(
        timeoutSeconds: Int(request.timeoutSeconds), usesPreviousGeneration: request.usesPreviousGeneration)
      return .report(try await host.resumeSandbox(WireField.id(request.sandboxID, "sandbox_id"), options))
    }
    operation(.forkSandbox, on: router) { (request: Host_ForkSandboxRequest) in
      let results = try await host.forkSandbox(WireField.id(request.sandboxID, "sandbox_id"), into: request.specs())
      return .with { $0.copies = Host_ForkResults(results) }
    }
    registerQueries(on: router)
  }

  private func registerQueries(on router: ConnectRouter<BasicConnectRequestContext>) {
    let host = host
    unary(.setTimeout, on: router) { (request: Host_SetTimeoutRequest) in
      try await host.setTimeout(Int(request.seconds), of: WireField.id(request.sandboxID, "sandbox_id"))
      return Host_Done()
    }
    unary(.listSandboxes, on: router) { (_: Host_ListSandboxesRequest) in
      let sandboxes = try await host.listSandboxes()
      return Host_ListSandboxesResponse.with { $0.sandboxes = sandboxes.map { Host_Sandbox($0) } }
    }
    unary(.getSandbox, on: router) { (request: Host_SandboxRequest) in
      Host_Sandbox(try await host.sandbox(request.id()))
    }
    unary(.pingSandbox, on: router) { (request: Host_SandboxRequest) in
      try await host.pingSandbox(request.id())
      return Host_Done()
    }
    unary(.getMetrics, on: router) { (request: Host_SandboxRequest) in
      Host_Metrics(try await host.metrics(of: request.id()))
    }
  }

  func registerSnapshots(on router: ConnectRouter<BasicConnectRequestContext>) {
    let host = host
    operation(.createSnapshot, on: router) { (request: Host_CreateSnapshotRequest) in
      let template = try await host.createSnapshot(SnapshotRequest(request))
      return .with { $0.template = Host_Template(template) }
    }
    operation(.deleteSnapshot, on: router) { (request: Host_DeleteSnapshotRequest) in
      try await host.deleteSnapshot(
        WireField.name(request.name, "name"), team: WireField.id(request.teamID, "team_id"),
        createdAt: request.hasCreatedAt ? request.createdAt.clampedDate : nil)
      return .finished
    }
    unary(.listTemplates, on: router) { (request: Host_ListTemplatesRequest) in
      let templates = try await host.listTemplates(try request.requestedKind())
      return Host_ListTemplatesResponse.with { $0.templates = templates.map { Host_Template($0) } }
    }
  }
}

extension Host_SandboxRequest {
  func id() throws -> SandboxID { try WireField.id(sandboxID, "sandbox_id") }
}

extension Host_OperationEvent {
  static var finished: Host_OperationEvent { .with { $0.done = Host_Done() } }

  static func report(_ sandbox: HostSandbox) -> Host_OperationEvent { .with { $0.sandbox = Host_Sandbox(sandbox) } }
}
