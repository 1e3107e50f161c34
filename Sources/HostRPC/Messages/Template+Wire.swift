package import HostAPI
import Model
package import Protos
import SwiftProtobuf

extension Host_Template {
  package init(_ template: HostTemplate) {
    self.init()
    name = template.name.value
    teamID = template.teamID.wire
    kind = template.kind.rawValue
    if let shape = template.shape {
      self.shape.vcpus = Int64(shape.vcpus)
      self.shape.memoryMib = Int64(shape.memoryMiB)
      self.shape.diskSizeMib = Int64(shape.diskSizeMiB)
    }
    sizeBytes = template.sizeBytes
    createdAt = Google_Protobuf_Timestamp(clamping: template.createdAt)
  }
}

extension HostTemplate {
  package init(_ template: Host_Template) throws {
    guard let kind = Kind(rawValue: template.kind) else { throw MalformedHostMessage("template.kind") }
    let shape = template.shape
    self.init(
      name: try WireField.name(template.name, "template.name"),
      teamID: try WireField.id(template.teamID, "template.team_id"), kind: kind,
      shape: template.hasShape
        ? SandboxShape(vcpus: Int(shape.vcpus), memoryMiB: Int(shape.memoryMib), diskSizeMiB: Int(shape.diskSizeMib))
        : nil,
      sizeBytes: template.sizeBytes, createdAt: template.createdAt.clampedDate)
  }
}

extension Host_ListTemplatesRequest {
  /// The requested kind; nil for all kinds.
  package func requestedKind() throws -> HostTemplate.Kind? {
    guard hasKind else { return nil }
    guard let kind = HostTemplate.Kind(rawValue: kind) else { throw MalformedHostMessage("kind") }
    return kind
  }
}

extension Host_CreateSnapshotRequest {
  package init(_ request: SnapshotRequest) {
    self.init()
    sandboxID = request.sandboxID.wire
    name = request.name.value
    teamID = request.teamID.wire
    overwrites = request.overwrites
  }
}

extension SnapshotRequest {
  package init(_ request: Host_CreateSnapshotRequest) throws {
    self.init(
      sandboxID: try WireField.id(request.sandboxID, "sandbox_id"), name: try WireField.name(request.name, "name"),
      teamID: try WireField.id(request.teamID, "team_id"), overwrites: request.overwrites)
  }
}
