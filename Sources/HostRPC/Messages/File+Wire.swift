import Foundation
package import HostAPI
package import Model
package import Protos
import SwiftProtobuf

extension Host_FileRequest {
  package init(_ path: String, user: String?, in id: SandboxID) {
    self.init()
    sandboxID = id.wire
    self.path = path
    if let user { self.user = user }
  }

  package var optionalUser: String? { hasUser ? user : nil }

  /// The request as the query value of the file route.
  package func queryValue() throws -> String {
    Base64URL.encode(try serializedBytes())
  }

  package init(queryValue text: String) throws {
    guard let data = Base64URL.decode(text) else { throw MalformedHostMessage("request") }
    do {
      try self.init(serializedBytes: data)
    } catch {
      throw MalformedHostMessage("request")
    }
  }
}

extension Host_FileEntry {
  package init(_ entry: FileEntry) {
    self.init()
    name = entry.name
    path = entry.path
    kind = entry.kind.rawValue
    sizeBytes = entry.sizeBytes
    mode = entry.mode
    permissions = entry.permissions
    owner = entry.owner
    group = entry.group
    modifiedAt = Google_Protobuf_Timestamp(clamping: entry.modifiedAt)
    if let target = entry.symlinkTarget { symlinkTarget = target }
  }
}

extension FileEntry {
  package init(_ entry: Host_FileEntry) throws {
    guard let kind = Kind(rawValue: entry.kind) else { throw MalformedHostMessage("entry.kind") }
    self.init(
      name: entry.name, path: entry.path, kind: kind, sizeBytes: entry.sizeBytes, mode: entry.mode,
      permissions: entry.permissions,
      owner: entry.owner, group: entry.group, modifiedAt: entry.modifiedAt.clampedDate,
      symlinkTarget: entry.hasSymlinkTarget ? entry.symlinkTarget : nil)
  }
}

extension Host_Metrics {
  package init(_ metrics: GuestMetrics) {
    self.init()
    timestamp = Google_Protobuf_Timestamp(clamping: metrics.timestamp)
    cpuPercent = metrics.cpuPercent
    memoryBytes = metrics.memoryBytes
    memoryTotalBytes = metrics.memoryTotalBytes
    diskBytes = metrics.diskBytes
    diskTotalBytes = metrics.diskTotalBytes
  }
}

extension GuestMetrics {
  package init(_ metrics: Host_Metrics) {
    self.init(
      timestamp: metrics.timestamp.clampedDate, cpuPercent: metrics.cpuPercent, memoryBytes: metrics.memoryBytes,
      memoryTotalBytes: metrics.memoryTotalBytes, diskBytes: metrics.diskBytes, diskTotalBytes: metrics.diskTotalBytes)
  }
}
