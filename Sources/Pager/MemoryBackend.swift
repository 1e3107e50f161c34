package import Model
package import Snapshots
package import SystemPackage

/// Serves the memory of restored guests, and saves the memory of stopped ones. The real one starts `martlet pager`
/// processes.
package protocol MemoryBackend: Sendable {
  /// Starts a pager that waits for a VMM and serves `generation` to it. Returns once the pager listens.
  func launch(_ configuration: PagerConfiguration) async throws -> any PagerProcess
  /// The pager that a predecessor launched; nil when it is gone.
  func adopt(_ identity: PagerIdentity, runDirectory: FilePath) async throws -> (any PagerProcess)?
  /// Takes over the page faults of a living VMM whose pager is gone.
  func replace(_ configuration: PagerConfiguration, vmm: Int32) async throws -> any PagerProcess
  /// Pagers of this instance that run although no journal names them.
  func findOrphans(of id: InstanceID) throws -> [PagerIdentity]
  /// Does what can be done while the guest still runs, towards writing `memory.layer` and `memory.header` of `draft`:
  /// the pages that differ from `parent`. Files are written, not yet durable (`SnapshotStore.publish` sees to that).
  /// - Parameters:
  ///   - vmm: process id of the VMM.
  ///   - parent: whose pages the VM was restored from, directly or over generations made meanwhile; nil when it was
  ///     booted.
  /// - Returns: what is either run once or abandoned.
  func prepareSaving(
    vmm: Int32, runDirectory: FilePath, memoryBytes: Int64, parent: Generation?, into draft: GenerationDraft
  ) async throws -> any MemorySaving
}

extension MemoryBackend {
  /// Saves the memory of a guest that stands still already.
  package func save(
    vmm: Int32, runDirectory: FilePath, memoryBytes: Int64, parent: Generation?, into draft: GenerationDraft
  ) async throws -> SavedMemory {
    try await prepareSaving(vmm: vmm, runDirectory: runDirectory, memoryBytes: memoryBytes, parent: parent, into: draft)
      .run()
  }
}

/// A save that is about to be made.
package protocol MemorySaving: Sendable {
  /// Saves the memory of the guest, which is stopped. The VMM is not disturbed; it can run on afterwards.
  func run() async throws -> SavedMemory
  /// Ends an attempt that will not be made; nothing after `run`. Idempotent.
  func abandon() async
}

package struct PagerConfiguration: Sendable, Codable, Equatable {
  package static let socketName = "pager.sock"

  package var id: InstanceID
  /// Store directory and generation that pages come from.
  package var store: FilePath
  package var generation: GenerationID
  /// The instance's own directory: socket, statistics, log.
  package var runDirectory: FilePath
  /// The VMM's user, who must be able to connect.
  package var ownerUID: UInt32
  /// Whether the pages of the first moments are recorded as the generation's working set, when it has none yet.
  package var recordsWorkingSet: Bool

  package init(
    id: InstanceID, store: FilePath, generation: GenerationID, runDirectory: FilePath, ownerUID: UInt32,
    recordsWorkingSet: Bool
  ) {
    self.id = id
    self.store = store
    self.generation = generation
    self.runDirectory = runDirectory
    self.ownerUID = ownerUID
    self.recordsWorkingSet = recordsWorkingSet
  }

  package var socketPath: FilePath { runDirectory.appending(Self.socketName) }
}

/// What identifies a pager process across agent restarts.
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
  func waitForExit() async -> PagerExit
  /// Tells a recording pager that the first moments are over. Idempotent; does nothing when it does not record.
  func finishRecording() async
  func statistics() async throws -> PagerStatistics
  /// Ends the pager. Its VM stalls until another takes over, or is killed. Idempotent.
  func kill() async
}

package struct PagerExit: Sendable, Equatable {
  /// Set when the pager could not serve a page and therefore ended the VM: a sentence for the tenant.
  package var failure: String?

  package init(failure: String?) {
    self.failure = failure
  }
}

/// Counted a moment after the guest goes on.
package struct PagerStatistics: Sendable, Codable, Equatable {
  package var faults = 0
  package var pagesCopied = 0
  package var pagesZeroed = 0
  /// Pages pushed from the recorded working set before the first fault.
  package var pagesPrefetched = 0
  package var removedPages = 0
  /// Time spent serving, without waiting.
  package var busyMicroseconds = 0

  package init() {}
}

package struct SavedMemory: Sendable, Equatable {
  /// Pages stored in the new layer.
  package var storedPages: Int
  /// Pages that became zero since the parent.
  package var zeroedPages: Int
  /// Dirty pages that turned out equal to the parent's.
  package var equalPages: Int

  package init(storedPages: Int, zeroedPages: Int, equalPages: Int) {
    self.storedPages = storedPages
    self.zeroedPages = zeroedPages
    self.equalPages = equalPages
  }
}
