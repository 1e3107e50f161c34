package import Disks
package import Hypervisor
package import Model
package import Pager

/// The journal entry of a microVM, written before its first resource exists.
///
/// All resources follow from `id`, `slot` and `userID` (names, paths, addresses), so the entry is complete from the
/// start: removal performs the same steps at whatever point the creation stopped. The other fields are added when they
/// become known.
package struct InstanceEntry: Sendable, Codable, Equatable {
  package var id: InstanceID
  package var slot: Int
  package var userID: UInt32
  package var vcpus: Int
  package var memoryMiB: Int
  package var diskSizeMiB: Int
  package var network: NetworkPolicy
  /// The generation that its memory was restored from, which its pager serves; nil when it was booted.
  package var origin: GenerationID?
  /// The generation that its memory differs least from: the origin, or a later checkpoint.
  package var base: GenerationID?
  package var disk: Disk?
  /// The image at the bottom of the disk's chain.
  package var bottom: DiskBase?
  /// Set while the guest is moved from `disk` to another overlay; after a crash the VMM is asked which one it writes.
  package var nextDisk: NextDisk?
  /// Generations whose disk layers are below `disk`, nearest first.
  package var diskChain: [GenerationID] = []
  /// Those of `diskChain` that were never published: their content is in `retiredDisks` only.
  package var unpublishedLayers: [GenerationID] = []
  /// Overlays that the guest wrote to before `disk` and that its VMM still has open below it, nearest first. Nil in
  /// entries of earlier versions.
  package var retiredDisks: [RetiredDisk]?
  /// A shorter way from one generation of `diskChain` down, for what is captured from now on.
  package var shortcut: Shortcut?
  /// Number of overlays that the microVM has had.
  package var overlays = 0
  package var vmm: VMMIdentity?
  package var pager: PagerIdentity?
  package var hostAddress: IPv4Address?

  package struct RetiredDisk: Sendable, Codable, Equatable {
    package var disk: Disk
    /// The generation whose disk layer has the content of this overlay over what lies below.
    package var layer: GenerationID
  }

  package struct NextDisk: Sendable, Codable, Equatable {
    package var disk: Disk
    /// The generation whose disk layer the present `disk` becomes.
    package var layer: GenerationID
    /// The generations whose disk layers are below that layer, nearest first.
    package var parents: [GenerationID]
  }

  package struct Shortcut: Sendable, Codable, Equatable {
    package var old: GenerationID
    /// Has the same content as `old`, and equals `base` while the shortcut is usable.
    package var merged: GenerationID
    /// The generations whose disk layers are below `merged`, nearest first.
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

  /// Generations that must exist as long as this microVM.
  var neededGenerations: Set<GenerationID> {
    Set(diskChain + [origin, base].compactMap { $0 })
  }
}
