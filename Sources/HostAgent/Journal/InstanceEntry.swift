package import Disks
package import Hypervisor
package import Model
package import Pager

/// What the agent writes down about a microVM before any of its resources exists.
///
/// Everything that can be allocated follows from `id`, `slot` and `userID` (names, paths, addresses), so the entry is
/// complete from its first moment: removing is walking the same list whatever point its making had reached. The rest
/// adds what is known later.
package struct InstanceEntry: Sendable, Codable, Equatable {
  package var id: InstanceID
  package var slot: Int
  package var userID: UInt32
  package var vcpus: Int
  package var memoryMiB: Int
  package var diskSizeMiB: Int
  package var network: NetworkPolicy
  /// The generation its memory was restored from, which its pager serves; nil when it was booted.
  package var origin: GenerationID?
  /// What its memory differs least from: the origin, or a checkpoint made since.
  package var base: GenerationID?
  package var disk: Disk?
  /// The image at the bottom of the disk's chain.
  package var bottom: DiskBase?
  /// Set while the guest is moved from `disk` to another overlay; after a crash the VMM knows which one it writes.
  package var nextDisk: NextDisk?
  /// Generations whose disk layers are below `disk`, nearest first.
  package var diskChain: [GenerationID] = []
  /// Those of `diskChain` that were never published: only the layer exists.
  package var unpublishedLayers: [GenerationID] = []
  /// A shorter way from one generation of `diskChain` down, for what is captured from now on.
  package var shortcut: Shortcut?
  /// How many overlays it has had.
  package var overlays = 0
  package var vmm: VMMIdentity?
  package var pager: PagerIdentity?
  package var hostAddress: IPv4Address?

  package struct NextDisk: Sendable, Codable, Equatable {
    package var disk: Disk
    /// What `disk` was before becomes the disk layer of this generation.
    package var layer: GenerationID
    /// The generations whose disk layers are below that one.
    package var parents: [GenerationID]
  }

  package struct Shortcut: Sendable, Codable, Equatable {
    package var old: GenerationID
    /// Has the same content as `old`, and is `base` as long as the shortcut is of use.
    package var merged: GenerationID
    /// The generations whose disk layers are below that one.
    package var parents: [GenerationID]
  }

  package init(
    id: InstanceID, slot: Int, userID: UInt32, vcpus: Int, memoryMiB: Int, diskSizeMiB: Int, network: NetworkPolicy,
    origin: GenerationID?
  ) {
    self.id = id
    self.slot = slot
    self.userID = userID
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskSizeMiB = diskSizeMiB
    self.network = network
    self.origin = origin
    base = origin
  }

  /// Every generation that must stay as long as this microVM lives.
  var neededGenerations: Set<GenerationID> {
    Set(diskChain + [origin, base].compactMap { $0 })
  }
}
