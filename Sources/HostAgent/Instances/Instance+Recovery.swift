import Disks
import Hypervisor
import Logging
import Model
import Pager
import SystemPackage

extension Instance {
  /// Adopts a microVM of an earlier host agent.
  /// - Returns: false when the VMM has ended.
  /// - Throws: when that cannot be found out, for example because the agent has no descriptor left. The microVM may
  ///   run and must not be taken for lost.
  func adopt() async throws -> Bool {
    guard let identity = entry.vmm,
      let machine = try await context.parts.driver.adopt(identity, runDirectory: directory, cgroup: cgroup)
    else { return false }
    try await adoptPager(vmm: machine)
    watch(machine)
    do {
      try await settleDisk(machine)
    } catch {
      context.logger.error("the disk of an adopted guest could not be determined", metadata: ["error": "\(error)"])
    }
    context.logger.info("adopted", metadata: ["vmm.pid": "\(identity.pid)"])
    return true
  }

  /// - Throws: when it cannot be found out whether the pager runs: a second one must not be started beside it.
  private func adoptPager(vmm: any VirtualMachine) async throws {
    guard entry.origin != nil else { return }
    var identities = try context.parts.memory.findOrphans(of: id)
    if let known = entry.pager { identities.insert(known, at: 0) }
    for identity in identities {
      guard let pager = try await context.parts.memory.adopt(identity, runDirectory: directory) else { continue }
      return watch(pager)
    }
    do {
      try await replacePager(of: vmm.identity.pid)
    } catch {
      context.logger.error("the pager could not be replaced", metadata: ["error": "\(error)"])
      try await vmm.kill()
    }
  }

  /// Completes or reverts a move to another overlay that the host agent's death interrupted.
  private func settleDisk(_ machine: any VirtualMachine) async throws {
    guard let next = entry.nextDisk else { return }
    let written = try await machine.writtenDisk()
    guard written.name == next.disk.name || written.path == next.disk.path.string else {
      try await context.parts.disks.remove(next.disk)
      entry.nextDisk = nil
      return try await context.journal.update(entry)
    }
    try await diskSwitched()
  }
}
