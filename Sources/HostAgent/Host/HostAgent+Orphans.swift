import Concurrency
import Glibc
import LinuxSystem
import Logging
import Model
import SystemPackage

extension HostAgent {
  /// Removes resources that carry our names but are in no journal entry, because the journal or its newest rows were
  /// lost.
  func removeOrphans() async {
    var instances: [Instance] = []
    for controller in allControllers { if let instance = await controller.instance { instances.append(instance) } }
    var slots: Set<Int> = []
    for instance in instances { slots.insert(await instance.entry.slot) }
    await removeOrphanCgroups(slots)
    await removeOrphanNetworks(slots)
    await removeOrphanDirectories(Set(instances.map(\.id)))
  }

  private func removeOrphanCgroups(_ knownSlots: Set<Int>) async {
    guard let hierarchy = parts.cgroups else { return }
    let names = await listing("control group") {
      try Cgroup.existingNames(in: hierarchy, parent: configuration.cgroupParent)
    }
    for name in names {
      guard name.hasPrefix("slot-"), let slot = Int(name.dropFirst(5)), !knownSlots.contains(slot) else { continue }
      let cgroup = Cgroup(hierarchy: hierarchy, name: name, parent: configuration.cgroupParent)
      await reporting("control group", name) { try await self.remove(cgroup) }
    }
  }

  /// Kills what runs in a control group, then removes the group.
  private func remove(_ cgroup: Cgroup) async throws {
    for pid in try cgroup.processes() {
      guard let process = try ProcessHandle.open(pid: pid) else { continue }
      process.signal(SIGKILL)
      try await withDeadline(configuration.undoDeadline) { await process.waitForExit() }
    }
    try await cgroup.remove()
  }

  private func removeOrphanNetworks(_ knownSlots: Set<Int>) async {
    let existing = await listing("network") { try await parts.network.existingSlots() }
    for slot in existing where configuration.slots.contains(slot) && !knownSlots.contains(slot) {
      await reporting("network", "\(slot)") { try await self.parts.network.remove(slot: slot) }
    }
  }

  private func removeOrphanDirectories(_ knownIDs: Set<InstanceID>) async {
    let known = Set(knownIDs.map(\.uuidString))
    for name in await listing("directory", { try Directories.names(in: configuration.instancesDirectory) }) {
      // Only what has the form of our names.
      guard !known.contains(name), InstanceID(wire: "\(InstanceKind.prefix)-\(name)") != nil else { continue }
      let directory = configuration.instancesDirectory.appending(name)
      await reporting("directory", name) { try Directories.removeTree(directory) }
    }
  }

  /// What cannot be listed stays until the next start.
  private func listing<Name>(_ kind: String, _ body: () async throws -> [Name]) async -> [Name] {
    do {
      return try await body()
    } catch {
      logger.error("orphans could not be listed", metadata: ["kind": "\(kind)", "error": "\(error)"])
      return []
    }
  }

  private func reporting(_ kind: String, _ name: String, _ body: () async throws -> Void) async {
    do {
      try await body()
      logger.warning("removed an orphan", metadata: ["kind": "\(kind)", "name": "\(name)"])
    } catch {
      logger.error(
        "an orphan could not be removed", metadata: ["kind": "\(kind)", "name": "\(name)", "error": "\(error)"])
    }
  }
}
