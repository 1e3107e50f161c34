import Disks
import Foundation
import Glibc
import Hypervisor
import LinuxSystem
import Logging
import Model

/// Several removals failed; each is tried again later.
struct RemovalFailures: Error, CustomStringConvertible {
  let failures: [(step: SandboxStep, error: any Error)]

  var description: String { failures.map { "\($0.step.rawValue): \($0.error)" }.joined(separator: "; ") }
}

extension SandboxController {
  func performDestroy() async throws {
    guard lifecycle.state == .destroying else { return }
    let begin = ContinuousClock.now
    entry.phase = .destroying
    do {
      try await context.journal.update(entry)
      try await removeEverything()
    } catch {
      context.logger.error("could not be destroyed, will be tried again", metadata: ["error": "\(error)"])
      throw MartletError(.internalError, "sandbox \(id) could not be removed completely; the host keeps trying", cause: error)
    }
    _ = lifecycle.handle(.destroyed)
    context.logger.info("destroyed", metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
  }

  /// Ends the runtime of a sandbox whose VMM is gone. The disk and the console stay for whoever wants to know what happened.
  func performRelease(reason: String) async {
    guard case .failed = lifecycle.state else { return }
    await drainConsole()
    entry.phase = .failed
    entry.reason = reason
    do {
      try await context.journal.update(entry)
      try await remove([.vmm, .cgroup, .network])
    } catch {
      context.logger.error("resources of a failed sandbox are left", metadata: ["error": "\(error)"])
    }
    setGuest(nil)
    machine = nil
  }

  /// Removes everything but the journal's row, which tells the control plane what became of the sandbox.
  func performWithdrawal(reason: String) async {
    entry.phase = .failed
    entry.reason = reason
    do {
      try await context.journal.update(entry)
      try await remove([.vmm, .cgroup, .network, .disk, .directory])
      entry.disk = nil
      entry.vmm = nil
      try await context.journal.update(entry)
    } catch {
      context.logger.error("resources of an interrupted creation are left", metadata: ["error": "\(error)"])
    }
  }

  /// Every step is tried, newest first; what is gone already counts as removed. The journal's row goes last.
  func removeEverything() async throws {
    setGuest(nil)
    try await remove([.vmm, .cgroup, .network, .disk, .directory])
    try await removing(.journal) { try await self.context.journal.remove(self.id) }
    machine = nil
    context.forget(id, entry.slot)
  }

  private func remove(_ steps: [SandboxStep]) async throws {
    var failures: [(SandboxStep, any Error)] = []
    for step in steps {
      do {
        try await removing(step) { try await self.remove(step) }
      } catch {
        failures.append((step, error))
      }
    }
    guard failures.isEmpty else { throw RemovalFailures(failures: failures) }
  }

  private func removing(_ step: SandboxStep, _ body: @escaping @Sendable () async throws -> Void) async throws {
    try await self.step(.beforeRemoving(step))
    try await withDeadline(context.configuration.undoDeadline, body)
    try await self.step(.afterRemoving(step))
  }

  private func remove(_ step: SandboxStep) async throws {
    switch step {
    case .vmm: try await removeMachine()
    case .cgroup: try await cgroup?.remove()
    case .network: try await context.parts.network.remove(slot: entry.slot)
    case .disk: if let disk = entry.disk { try await context.parts.disks.remove(disk) }
    case .directory: try await removeDirectory()
    case .journal, .guest, .commit: break
    }
  }

  /// Kills the VMM, whether we launched it, adopted it, or only know its name.
  private func removeMachine() async throws {
    if let machine { return await machine.kill() }
    let directory = context.configuration.directory(of: id)
    var identities = try context.parts.driver.findOrphans(of: InstanceID(id.uuid))
    if let known = entry.vmm, !identities.contains(known) { identities.append(known) }
    for identity in identities {
      try await context.parts.driver.adopt(identity, runDirectory: directory, cgroup: nil)?.kill()
    }
  }

  private func removeDirectory() async throws {
    let directory = context.configuration.directory(of: id)
    try await BlockingPool.shared.run { () throws in try Directories.removeTree(directory) }
  }
}
