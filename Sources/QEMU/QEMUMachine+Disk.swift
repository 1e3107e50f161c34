import Foundation
import Hypervisor

extension QEMUMachine {
  func switchDisk(to disk: DiskAttachment.File) async throws {
    try await requireStopped("blockdev-snapshot")
    let monitor = try await monitor()
    let current = try await currentMedium(monitor)
    if current.nodeName == disk.name { return }
    // Left by a switch that did not get to its end.
    try await closeUnused(monitor)
    try await open(disk, over: nil, monitor)
    do {
      // Flushes the old disk and opens it read-only from now on.
      try await monitor.execute(
        "blockdev-snapshot", ["node": current.nodeName ?? QEMUArguments.formerDiskID, "overlay": disk.name])
    } catch {
      await Task { try? await closeUnused(monitor) }.value
      throw error
    }
  }

  func replaceLayers(_ attachment: DiskAttachment) async throws {
    let monitor = try await monitor()
    guard try await currentMedium(monitor).nodeName == attachment.disk.name else {
      throw QMPError(command: "blockdev-reopen", text: "the guest writes to another disk")
    }
    let known = try await nodeNames(monitor)
    // Below a layer that is there already nothing changes.
    let first = attachment.layers.firstIndex { known.contains($0.name) } ?? attachment.layers.endIndex
    var backing = first < attachment.layers.endIndex ? attachment.layers[first].name : nil
    do {
      for layer in attachment.layers[..<first].reversed() {
        try await open(layer, over: backing, monitor)
        backing = layer.name
      }
      let options = DiskNode(attachment.disk).reopening(over: backing)
      try await monitor.execute("blockdev-reopen", ["options": [options]])
    } catch {
      await Task { try? await closeUnused(monitor) }.value
      throw error
    }
    try await closeUnused(monitor)
  }

  func writtenDisk() async throws -> WrittenDisk {
    let medium = try await currentMedium(try await monitor())
    return WrittenDisk(name: medium.nodeName ?? "", path: medium.file)
  }

  // MARK: - Nodes

  /// Passes the file's descriptors and makes its nodes.
  private func open(_ file: DiskAttachment.File, over backing: String?, _ monitor: QMPClient) async throws {
    struct Added: Decodable {
      let set: Int
      enum CodingKeys: String, CodingKey { case set = "fdset-id" }
    }
    let answer = try await monitor.execute("add-fd", ["opaque": file.name], passing: file.readable)
    let set = try JSONDecoder().decode(Added.self, from: answer).set
    do {
      if let writable = file.writable {
        try await monitor.execute("add-fd", ["fdset-id": set, "opaque": file.name], passing: writable)
      }
      try await monitor.execute("blockdev-add", DiskNode(file).opening(set: set, over: backing))
    } catch {
      await Task { _ = try? await monitor.execute("remove-fd", ["fdset-id": set]) }.value
      throw error
    }
  }

  /// Closes every file of ours that the guest's disk does not lie over, and forgets its descriptors. QEMU refuses to
  /// close one that is in use.
  private func closeUnused(_ monitor: QMPClient) async throws {
    // QEMU's own names begin with `#`; the node of an open file goes with the one above.
    var candidates = try await nodeNames(monitor).filter { !$0.hasPrefix("#") && !$0.hasSuffix(DiskNode.fileSuffix) }
    var closed: Set<String> = []
    while true {
      // Closing one may set free those below.
      var refused: [String] = []
      for name in candidates {
        do {
          try await monitor.execute("blockdev-del", ["node-name": name])
          closed.insert(name)
        } catch let error as QMPError where !error.isConnectionLost {
          refused.append(name)
        }
      }
      if refused.count == candidates.count { break }
      candidates = refused
    }
    let sets = try JSONDecoder().decode([DescriptorSet].self, from: await monitor.execute("query-fdsets"))
    for set in sets where set.members.contains(where: { closed.contains($0.opaque ?? "") }) {
      try await monitor.execute("remove-fd", ["fdset-id": set.id])
    }
  }

  private func nodeNames(_ monitor: QMPClient) async throws -> [String] {
    struct Node: Decodable {
      let name: String?
      enum CodingKeys: String, CodingKey { case name = "node-name" }
    }
    let answer = try await monitor.execute("query-named-block-nodes", ["flat": true])
    return try JSONDecoder().decode([Node].self, from: answer).compactMap(\.name)
  }

  /// A guest has one disk. VMMs of earlier versions have a name for its device.
  private func currentMedium(_ monitor: QMPClient) async throws -> BlockDevice.Medium {
    let devices = try JSONDecoder().decode([BlockDevice].self, from: await monitor.execute("query-block"))
    guard let medium = devices.compactMap(\.inserted).first else {
      throw QMPError(command: "query-block", text: "the guest has no disk")
    }
    return medium
  }
}
