package import Model
package import SystemPackage

/// What the composition root decides about a host agent.
package struct HostConfiguration: Sendable {
  package var hostID: HostID
  /// Holds the journal, one directory per microVM, and the snapshots.
  package var dataDirectory: FilePath
  /// Slots this agent may use; no two agents of a machine share one.
  package var slots: Range<Int>
  /// VMMs run as this user id plus their slot; ids that no account has.
  package var firstUserID: UInt32
  /// Parent of the sandboxes' control groups.
  package var cgroupParent: String
  /// Guests that boot at the same time. More would only make all of them slower, and deadlines pass.
  package var concurrentBoots: Int
  /// Guests that are restored at the same time.
  package var concurrentRestores = 8
  /// MicroVMs kept running for sandboxes to come.
  package var warmPoolSize = 0
  /// Chains of generations longer than this are compacted when their sandbox is paused (UF-5).
  package var longestChain = 8
  /// A chain as long as this is compacted before it grows further, also while its sandbox runs; far below what the
  /// format can hold.
  package var longestGrowingChain = 24
  /// From the start of the VMM to the first answer of the guest agent, at a boot that has its share of the CPU.
  package var bootDeadline: Duration = .seconds(120)
  /// Bound on each step of a removal.
  package var undoDeadline: Duration = .seconds(30)
  package var maintenanceInterval: Duration = .seconds(2)
  /// What a VMM needs besides the guest's memory: translated code, device models, page tables.
  package var memoryOverheadMiB = 512
  /// Threads and processes of one VMM.
  package var processLimit = 512

  package init(
    hostID: HostID, dataDirectory: FilePath, slots: Range<Int>, firstUserID: UInt32, cgroupParent: String,
    concurrentBoots: Int
  ) {
    self.hostID = hostID
    self.dataDirectory = dataDirectory
    self.slots = slots
    self.firstUserID = firstUserID
    self.cgroupParent = cgroupParent
    self.concurrentBoots = concurrentBoots
  }

  var instancesDirectory: FilePath { dataDirectory.appending("instances") }
}
