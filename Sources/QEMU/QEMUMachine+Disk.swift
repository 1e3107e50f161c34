import Foundation
import Hypervisor

extension QEMUMachine {
  func switchDisk(to disk: DiskAttachment) async throws {
    try await requireStopped("blockdev-snapshot")
    let monitor = try await monitor()
    let current = try await currentDisk(monitor)
    if current.file == disk.path { return }
    let new = (current.nodeName.flatMap { DiskNode(name: $0) } ?? .first).next
    // A node that an incomplete switch left. The command fails when there is none or it is in use.
    _ = try? await monitor.execute("blockdev-del", ["node-name": new.name])
    try await monitor.execute("blockdev-add", new.opening(disk))
    do {
      // Flushes the old file and reopens it read-only.
      try await monitor.execute(
        "blockdev-snapshot", ["node": current.nodeName ?? QEMUArguments.diskID, "overlay": new.name])
    } catch {
      await Task { _ = try? await monitor.execute("blockdev-del", ["node-name": new.name]) }.value
      throw error
    }
  }

  func diskPath() async throws -> String {
    try await currentDisk(try await monitor()).file
  }

  private func currentDisk(_ monitor: QMPClient) async throws -> BlockDevice.Medium {
    let devices = try JSONDecoder().decode([BlockDevice].self, from: await monitor.execute("query-block"))
    guard let medium = devices.first(where: { $0.device == QEMUArguments.diskID })?.inserted else {
      throw QMPError(command: "query-block", text: "the guest has no disk")
    }
    return medium
  }
}
