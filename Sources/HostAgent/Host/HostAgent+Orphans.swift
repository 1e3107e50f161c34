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
    for name in Cgroup.existingNames(in: hierarchy, parent: configuration.cgroupParent) {
      guard name.hasPrefix("slot-"), let slot = Int(name.dropFirst(5)), !knownSlots.contains(slot) else { continue }
      let cgroup = Cgroup(hierarchy: hierarchy, name: name, parent: configuration.cgroupParent)
      for pid in (try? cgroup.processes()) ?? [] {
        guard let process = ProcessHandle.open(pid: pid) else { continue }
        process.signal(SIGKILL)
        await process.waitForExit()
      }
      await reporting("control group", name) { try await cgroup.remove() }
    }
  }

  private func removeOrphanNetworks(_ knownSlots: Set<Int>) async {
    let existing = (try? await parts.network.existingSlots()) ?? []
    for slot in existing where configuration.slots.contains(slot) && !knownSlots.contains(slot) {
      await reporting("network", "\(slot)") { try await self.parts.network.remove(slot: slot) }
    }
  }

  private func removeOrphanDirectories(_ knownIDs: Set<InstanceID>) async {
    let known = Set(knownIDs.map(\.uuidString))
    for name in (try? Directories.names(in: configuration.instancesDirectory)) ?? [] {
      // Only names of our form.
      guard !known.contains(name), InstanceID(wire: "\(InstanceKind.prefix)-\(name)") != nil else { continue }
      let directory = configuration.instancesDirectory.appending(name)
      await reporting("directory", name) { try Directories.removeTree(directory) }
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
