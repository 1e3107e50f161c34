package import HostAPI
package import Model
package import Protos
import SwiftProtobuf

extension Host_SandboxSpec {
  package init(_ spec: SandboxSpec) {
    self.init()
    id = spec.id.wire
    teamID = spec.teamID.wire
    template = spec.template.value
    vcpus = Int64(spec.vcpus)
    memoryMib = Int64(spec.memoryMiB)
    diskSizeMib = Int64(spec.diskSizeMiB)
    timeoutSeconds = Int64(spec.timeoutSeconds)
    metadata = spec.metadata
    envs = spec.envs
    network.allowsEgress = spec.network.allowsEgress
    network.allow = spec.network.allow
    network.deny = spec.network.deny
    isSecured = spec.isSecured
  }
}

extension SandboxSpec {
  /// Only parses ids and names; the host validates numbers, maps and networks, as for its own control plane.
  package init(_ spec: Host_SandboxSpec) throws {
    self.init(
      id: try WireField.id(spec.id, "spec.id"), teamID: try WireField.id(spec.teamID, "spec.team_id"),
      template: try WireField.name(spec.template, "spec.template"), vcpus: Int(spec.vcpus),
      memoryMiB: Int(spec.memoryMib),
      diskSizeMiB: Int(spec.diskSizeMib), timeoutSeconds: Int(spec.timeoutSeconds), metadata: spec.metadata,
      envs: spec.envs,
      network: NetworkPolicy(
        allowsEgress: spec.network.allowsEgress, allow: spec.network.allow, deny: spec.network.deny),
      isSecured: spec.isSecured)
  }
}

extension Host_Sandbox {
  package init(_ sandbox: HostSandbox) {
    self.init()
    id = sandbox.id.wire
    status = sandbox.status.rawValue
    vcpus = Int64(sandbox.vcpus)
    memoryMib = Int64(sandbox.memoryMiB)
    diskSizeMib = Int64(sandbox.diskSizeMiB)
    if let address = sandbox.guestIP { guestIp = address }
    if let address = sandbox.hostIP { hostIp = address }
    if let isolation = sandbox.isolation {
      self.isolation.vmm = isolation.vmm
      self.isolation.accelerator = isolation.accelerator
    }
    if let date = sandbox.startedAt { startedAt = Google_Protobuf_Timestamp(clamping: date) }
    if let date = sandbox.lastActiveAt { lastActiveAt = Google_Protobuf_Timestamp(clamping: date) }
    if let reason = sandbox.reason { self.reason = reason }
    isAutoPaused = sandbox.isAutoPaused
    timings = sandbox.timings.map { timing in
      .with {
        $0.phase = timing.phase
        $0.milliseconds = timing.milliseconds
      }
    }
  }
}

extension HostSandbox {
  package init(_ sandbox: Host_Sandbox) throws {
    guard let status = SandboxStatus(rawValue: sandbox.status) else { throw MalformedHostMessage("sandbox.status") }
    self.init(
      id: try WireField.id(sandbox.id, "sandbox.id"), status: status, vcpus: Int(sandbox.vcpus),
      memoryMiB: Int(sandbox.memoryMib),
      diskSizeMiB: Int(sandbox.diskSizeMib), guestIP: sandbox.hasGuestIp ? sandbox.guestIp : nil,
      hostIP: sandbox.hasHostIp ? sandbox.hostIp : nil,
      isolation: sandbox.hasIsolation
        ? Isolation(vmm: sandbox.isolation.vmm, accelerator: sandbox.isolation.accelerator) : nil,
      startedAt: sandbox.hasStartedAt ? sandbox.startedAt.clampedDate : nil,
      lastActiveAt: sandbox.hasLastActiveAt ? sandbox.lastActiveAt.clampedDate : nil,
      reason: sandbox.hasReason ? sandbox.reason : nil, isAutoPaused: sandbox.isAutoPaused,
      timings: sandbox.timings.map { PhaseTiming(phase: $0.phase, milliseconds: $0.milliseconds) })
  }
}

extension Host_ForkSandboxRequest {
  /// Encodes the copies' specs. Most copies differ only by their id, so a spec that equals the previous one is omitted.
  package init(_ id: SandboxID, into specs: [SandboxSpec]) {
    self.init()
    sandboxID = id.wire
    var last: SandboxSpec?
    for spec in specs {
      var copy = Copy()
      copy.id = spec.id.wire
      last?.id = spec.id
      if last != spec { copy.spec = Host_SandboxSpec(spec) }
      last = spec
      copies.append(copy)
    }
  }

  package func specs() throws -> [SandboxSpec] {
    guard copies.count <= Limits.forkCount.upperBound else { throw MalformedHostMessage("copies") }
    var specs: [SandboxSpec] = []
    for copy in copies {
      guard var spec = try copy.hasSpec ? SandboxSpec(copy.spec) : specs.last else {
        throw MalformedHostMessage("copies.spec")
      }
      spec.id = try WireField.id(copy.id, "copies.id")
      specs.append(spec)
    }
    return specs
  }
}

extension Host_ForkResults {
  package init(_ results: [Result<HostSandbox, MartletError>]) {
    self.init()
    copies = results.map { result in
      .with {
        switch result {
        case .success(let sandbox): $0.sandbox = Host_Sandbox(sandbox)
        case .failure(let error): $0.failure = Failure(error)
        }
      }
    }
  }

  package func results() throws -> [Result<HostSandbox, MartletError>] {
    try copies.map { copy in
      switch copy.result {
      case .sandbox(let sandbox): .success(try HostSandbox(sandbox))
      case .failure(let failure): .failure(HostErrors.martletError(failure.detail, failure.message))
      case nil: throw MalformedHostMessage("copies.result")
      }
    }
  }
}

extension Host_ForkResults.Failure {
  init(_ error: MartletError) {
    self.init()
    detail.code = error.code.rawValue
    if let seconds = error.retryAfterSeconds { detail.retryAfterSeconds = Int64(seconds) }
    message = error.message
  }
}

/// Parses fields with a prescribed format.
package enum WireField {
  package static func id<Kind: IdentifierKind>(_ text: String, _ field: String) throws -> Identifier<Kind> {
    guard let id = Identifier<Kind>(wire: text) else { throw MalformedHostMessage(field) }
    return id
  }

  package static func name(_ text: String, _ field: String) throws -> SafeName {
    guard let name = try? SafeName(text) else { throw MalformedHostMessage(field) }
    return name
  }
}
