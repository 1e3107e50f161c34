package import Model
package import SystemPackage

/// Settings of a host agent, chosen by the composition root.
package struct HostConfiguration: Sendable {
  package var hostID: HostID
  /// The installation that the host obeys.
  package var installation: InstallationID?
  /// Holds the journal, one directory per microVM, and the snapshots.
  package var dataDirectory: FilePath
  /// Slots that this host agent may use; no two host agents of a machine share one.
  package var slots: Range<Int>
  /// VMMs run as this user id plus their slot; no account may have these ids.
  package var firstUserID: UInt32
  /// Parent of the sandboxes' control groups.
  package var cgroupParent: String
  /// Maximum number of guests that boot at the same time. A larger number would slow all of them, and deadlines would
  /// pass.
  package var concurrentBoots: Int
  /// Maximum number of guests that are restored at the same time.
  package var concurrentRestores = 8
  /// Number of microVMs that the warm pool keeps running.
  package var warmPoolSize = 0
  /// Longer chains of generations are compacted when their sandbox is paused.
  package var longestChain = 8
  /// A chain of this length is compacted before it grows further, even while its sandbox runs. Far below the limit of
  /// the format.
  package var longestGrowingChain = 24
  /// From the start of the VMM to the first response of the guest agent, for a boot that gets its share of the CPU.
  package var bootDeadline: Duration = .seconds(120)
  /// Deadline of each step of a removal.
  package var undoDeadline: Duration = .seconds(30)
  /// How long a stop waits for pauses and other operations that are under way.
  package var drainDeadline: Duration = .seconds(120)
  /// Starts of microVMs that may wait for their turn; further ones are refused.
  package var maximumWaitingStarts = 1_024
  package var maintenanceInterval: Duration = .seconds(2)
  /// Number of quarantined sandboxes that are paused at the same time.
  package var concurrentQuarantinePauses = 2
  /// Time after which pausing a quarantined sandbox is tried again.
  package var quarantineRetryInterval: Duration = .seconds(30)
  /// Memory of a VMM besides the guest's: translated code, device models, page tables.
  package var memoryOverheadMiB = 512
  /// Maximum number of threads and processes of one VMM.
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
