package import LinuxSystem
package import Model
package import Snapshots
package import SystemPackage

/// Serves the memory of restored guests, and saves the memory of stopped guests. The production implementation starts
/// `martlet pager` processes.
package protocol MemoryBackend: Sendable {
  /// Starts a pager that waits for a VMM and serves `generation` to it. Returns once the pager listens.
  func launch(_ configuration: PagerConfiguration) async throws -> any PagerProcess
  /// Returns the pager that an earlier host agent launched; nil when it has ended.
  func adopt(_ identity: PagerIdentity, runDirectory: FilePath) async throws -> (any PagerProcess)?
  /// Takes over the page faults of a running VMM whose pager has ended.
  func replace(_ configuration: PagerConfiguration, vmm: Int32) async throws -> any PagerProcess
  /// Finds running pagers of this instance that the journal does not contain.
  func findOrphans(of id: InstanceID) throws -> [PagerIdentity]
  /// Prepares, while the guest still runs, to write `memory.layer` and `memory.header` of `draft`: the pages that
  /// differ from `parent`. The files are not synchronized (`SnapshotStore.publish` does that).
  /// - Parameters:
  ///   - vmm: process id of the VMM.
  ///   - parent: the generation that the VM was restored from, directly or through later generations; nil when it was
  ///     booted.
  /// - Returns: a save that must be either run once or abandoned.
  func prepareSaving(
    vmm: Int32, runDirectory: FilePath, memoryBytes: Int64, parent: Generation?, into draft: GenerationDraft
  ) async throws -> any MemorySaving
}

extension MemoryBackend {
  /// Saves the memory of a guest that is stopped already.
  package func save(
    vmm: Int32, runDirectory: FilePath, memoryBytes: Int64, parent: Generation?, into draft: GenerationDraft
  ) async throws -> SavedMemory {
    try await prepareSaving(vmm: vmm, runDirectory: runDirectory, memoryBytes: memoryBytes, parent: parent, into: draft)
      .run()
  }
}

/// A prepared save of a guest's memory.
package protocol MemorySaving: Sendable {
  /// Saves the memory of the guest, which is stopped. The VMM is not changed and can continue afterwards.
  func run() async throws -> SavedMemory
  /// Ends the process of a save that will not run. Does nothing after `run`. Idempotent.
  func abandon() async
}

package struct PagerConfiguration: Sendable, Equatable {
  package static let socketName = "pager.sock"

  package var id: InstanceID
  /// The store and the generation that pages come from.
  package var store: FilePath
  package var generation: GenerationID
  /// The instance's run directory: socket, statistics, log.
  package var runDirectory: FilePath
  /// The VMM's user, who must be able to connect, and whom the pager becomes.
  package var ownerUID: UInt32
  /// Whether to record the pages of the first moments as the generation's working set, if it has none yet.
  package var recordsWorkingSet: Bool
  /// The sandbox's control group, in which the pager runs; nil for none. It is not part of the command line.
  package var cgroup: Cgroup?

  package init(
    id: InstanceID, store: FilePath, generation: GenerationID, runDirectory: FilePath, ownerUID: UInt32,
    recordsWorkingSet: Bool, cgroup: Cgroup? = nil
  ) {
    self.cgroup = cgroup
    self.id = id
    self.store = store
    self.generation = generation
    self.runDirectory = runDirectory
    self.ownerUID = ownerUID
    self.recordsWorkingSet = recordsWorkingSet
  }

  package var socketPath: FilePath { runDirectory.appending(Self.socketName) }
}

/// Identifies a pager process across restarts of the host agent.
package struct PagerIdentity: Sendable, Codable, Equatable {
  package var pid: Int32
  /// Field 22 of /proc/PID/stat, in clock ticks after boot.
  package var startTimeTicks: UInt64

  package init(pid: Int32, startTimeTicks: UInt64) {
    self.pid = pid
    self.startTimeTicks = startTimeTicks
  }
}

package protocol PagerProcess: Sendable {
  var identity: PagerIdentity { get }
  /// Returns when the pager has ended. A pager ends by itself when its VM does.
  /// - Throws: when the calling task is cancelled before that.
  func waitForExit() async throws(CancellationError) -> PagerExit
  /// Ends the pager. Its VM stalls until another pager takes over or the VM is killed. Idempotent.
  /// - Throws: when the calling task is cancelled before the process has ended; the signal was sent.
  func kill() async throws(CancellationError)
}

package struct PagerExit: Sendable, Equatable {
  /// Set when the pager could not serve a page and therefore ended the VM. A sentence for the tenant.
  package var failure: String?

  package init(failure: String?) {
    self.failure = failure
  }
}

/// Counters of a pager. They are updated shortly after the guest continues.
package struct PagerStatistics: Sendable, Codable, Equatable {
  package var faults = 0
  package var pagesCopied = 0
  package var pagesZeroed = 0
  /// Pages pushed from the recorded working set before the first fault.
  package var pagesPrefetched = 0
  package var removedPages = 0
  /// Time spent on serving, without waiting.
  package var busyMicroseconds = 0
  /// Whether the generation's working set turned out to be damaged.
  package var foundDamagedWorkingSet = false

  package init() {}
}

package struct SavedMemory: Sendable, Equatable {
  /// Pages stored in the new layer.
  package var storedPages: Int
  /// Pages that became zero since the parent.
  package var zeroedPages: Int
  /// Dirty pages whose content equals the parent's.
  package var equalPages: Int

  package init(storedPages: Int, zeroedPages: Int, equalPages: Int) {
    self.storedPages = storedPages
    self.zeroedPages = zeroedPages
    self.equalPages = equalPages
  }
}
