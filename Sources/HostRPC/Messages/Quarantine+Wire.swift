package import HostAPI
import Model
package import Protos
import SwiftProtobuf

extension Host_Quarantine {
  package init(_ quarantine: HostQuarantine) {
    self.init()
    if let installation = quarantine.installation { installationID = installation.wire }
    items = quarantine.items.map { Host_QuarantinedItem($0) }
  }
}

extension HostQuarantine {
  package init(_ quarantine: Host_Quarantine) throws {
    self.init(
      installation: quarantine.hasInstallationID
        ? try WireField.id(quarantine.installationID, "quarantine.installation_id") : nil,
      items: try quarantine.items.map { try QuarantinedItem($0) })
  }
}

extension Host_QuarantinedItem {
  init(_ item: QuarantinedItem) {
    self.init()
    quarantinedAt = Google_Protobuf_Timestamp(clamping: item.quarantinedAt)
    createdAt = Google_Protobuf_Timestamp(clamping: item.createdAt)
    sizeBytes = item.sizeBytes
    switch item.kind {
    case .sandbox(let spec, let state):
      sandbox.spec = Host_SandboxSpec(spec)
      sandbox.state = Host_Sandbox(state)
    case .snapshot(let generation, let template):
      snapshot.generationID = generation.wire
      snapshot.template = Host_Template(template)
    }
  }
}

extension QuarantinedItem {
  init(_ item: Host_QuarantinedItem) throws {
    let kind: Kind =
      switch item.kind {
      case .sandbox(let sandbox)?:
        .sandbox(spec: try SandboxSpec(sandbox.spec), state: try HostSandbox(sandbox.state))
      case .snapshot(let snapshot)?:
        .snapshot(
          try WireField.id(snapshot.generationID, "snapshot.generation_id"),
          template: try HostTemplate(snapshot.template))
      case nil: throw MalformedHostMessage("item.kind")
      }
    self.init(
      kind: kind, quarantinedAt: item.quarantinedAt.clampedDate, createdAt: item.createdAt.clampedDate,
      sizeBytes: item.sizeBytes)
  }
}
