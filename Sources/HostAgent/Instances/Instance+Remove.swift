import Concurrency
import Disks
import Glibc
import Hypervisor
import LinuxSystem
import Logging
import Model
import Pager

/// Failures of several removal steps; each is tried again later.
struct RemovalFailures: Error, CustomStringConvertible {
  let failures: [(step: HostStep, error: any Error)]

  var description: String { failures.map { "\($0.step.rawValue): \($0.error)" }.joined(separator: "; ") }
}

extension Instance {
  /// Releases everything, the slot last. Every step is tried, newest first; an absent resource counts as removed.
  /// Idempotent.
  func remove() async throws {
    expectEnd()
    try await remove([.vmm, .pager, .cgroup, .network, .disk, .directory])
    try await removing(.journal) { try await self.context.journal.remove(self.id) }
    machine = nil
    pager = nil
    context.slots.release(entry.slot)
  }

  /// Releases what costs the host resources. Disk, console and slot stay until `remove`.
  func release() async throws {
    expectEnd()
    await drainConsole()
    try await remove([.vmm, .pager, .cgroup, .network])
  }

  private func remove(_ steps: [HostStep]) async throws {
    var failures: [(HostStep, any Error)] = []
    for step in steps {
      do {
        try await removing(step) { try await self.remove(step) }
      } catch {
        failures.append((step, error))
      }
    }
    guard failures.isEmpty else { throw RemovalFailures(failures: failures) }
  }

  private func removing(_ step: HostStep, _ body: @escaping @Sendable () async throws -> Void) async throws {
    try await self.step(.beforeRemoving(step))
    // In a task of its own: a removal is completed even if the caller is cancelled.
    try await Task { try await withDeadline(context.configuration.undoDeadline, body) }.value
    try await self.step(.afterRemoving(step))
  }

  private func remove(_ step: HostStep) async throws {
    switch step {
    case .vmm: try await removeMachine()
    case .pager: try await removePager()
    case .cgroup: try await cgroup?.remove()
    case .network: try await context.parts.network.remove(slot: entry.slot)
    case .disk: try await removeDisks()
    case .directory: try await removeDirectory()
    case .journal, .state, .guest, .commit: break
    }
  }

  /// Kills the VMM, whether this process launched it, adopted it, or only knows its name.
  private func removeMachine() async throws {
    if let machine { return try await machine.kill() }
    var identities = try context.parts.driver.findOrphans(of: id)
    if let known = entry.vmm, !identities.contains(known) { identities.append(known) }
    for identity in identities {
      try await context.parts.driver.adopt(identity, runDirectory: directory, cgroup: nil)?.kill()
    }
  }

  private func removePager() async throws {
    if let pager { try await pager.kill() }
    var identities = try context.parts.memory.findOrphans(of: id)
    if let known = entry.pager, !identities.contains(known) { identities.append(known) }
    for identity in identities {
      try await context.parts.memory.adopt(identity, runDirectory: directory)?.kill()
    }
  }

  /// Published layers stay: they are files of their own.
  private func removeDisks() async throws {
    let retired = entry.retiredDisks?.map(\.disk) ?? []
    for disk in [entry.disk, entry.nextDisk?.disk].compactMap({ $0 }) + retired {
      try await context.parts.disks.remove(disk)
    }
  }

  private func removeDirectory() async throws {
    let directory = directory
    try await BlockingPool.shared.run { () throws in try Directories.removeTree(directory) }
  }
}
