package import Logging
package import Model
package import SystemPackage

/// A generation that is being written; nobody sees it before `SnapshotStore.publish`.
package struct GenerationDraft: Sendable, Equatable {
  package let id: GenerationID
  /// Private to whoever writes it, on the file system of the store.
  package let directory: FilePath

  package var memoryPath: FilePath { directory.appending("memory.layer") }
  package var headerPath: FilePath { directory.appending("memory.header") }
  package var devicePath: FilePath { directory.appending("device.state") }
  package var diskPath: FilePath { directory.appending("disk.layer") }
}

/// A generation that is complete, durable and immutable.
package struct Generation: Sendable, Equatable {
  package let manifest: GenerationManifest
  package let directory: FilePath

  package var id: GenerationID { manifest.id }
  package var memoryPath: FilePath { directory.appending("memory.layer") }
  package var headerPath: FilePath { directory.appending("memory.header") }
  package var devicePath: FilePath { directory.appending("device.state") }
  package var diskPath: FilePath { directory.appending("disk.layer") }
  /// Pages that the guest needed first after a restore; may be missing, is replaced as a whole.
  package var workingSetPath: FilePath { directory.appending("working.set") }
}

/// The generations of one host, on disk.
package final class SnapshotStore: Sendable {
  package let directory: FilePath
  private let logger: Logger

  package init(directory: FilePath, logger: Logger) {
    self.directory = directory
    self.logger = logger
  }

  /// Makes the private directory of a new generation. Blocks.
  package func begin(_ id: GenerationID) throws(MartletError) -> GenerationDraft {
    throw MartletError(.unimplemented, "not yet")
  }

  /// Makes a complete draft durable and visible, in that order: digests, fsync, rename, fsync. Blocks.
  /// A draft that cannot be published is left as it is.
  package func publish(_ draft: GenerationDraft, _ manifest: GenerationManifest) throws(MartletError) -> Generation {
    throw MartletError(.unimplemented, "not yet")
  }

  /// Removes a draft. Idempotent. Blocks.
  package func discard(_ draft: GenerationDraft) throws(MartletError) {
    throw MartletError(.unimplemented, "not yet")
  }

  /// A published generation, its manifest, header and presence of all files (own and those it depends on) checked.
  /// - Throws: `not_found`; `snapshot_damaged` with a sentence that says what is wrong.
  package func generation(_ id: GenerationID) throws(MartletError) -> Generation {
    throw MartletError(.unimplemented, "not yet")
  }

  /// Checks what `generation` does not read: device state and disk layers of the chain against their digests, each file once as
  /// long as it does not change on disk. Memory pages carry checksums of their own, which the pager checks when it serves them.
  package func verify(_ generation: Generation) throws(MartletError) {
    throw MartletError(.unimplemented, "not yet")
  }

  /// All published generations, damaged ones left out.
  package func generations() throws(MartletError) -> [Generation] {
    throw MartletError(.unimplemented, "not yet")
  }

  /// Bytes allocated for the generation itself, and for it with everything it depends on (DM-4).
  package func allocatedBytes(of id: GenerationID) throws(MartletError) -> (own: Int64, chain: Int64) {
    throw MartletError(.unimplemented, "not yet")
  }

  /// Number of generations that memory and disk of this one are spread over.
  package func chainLength(of id: GenerationID) throws(MartletError) -> Int {
    throw MartletError(.unimplemented, "not yet")
  }

  /// Writes a generation with the same content as `id` that depends on those in `kept` only: the layers between are merged.
  /// The sandbox's generation stays as it is until the caller commits the new one. Slow, reads and writes layers; blocks.
  package func compact(_ id: GenerationID, as new: GenerationID, keeping kept: Set<GenerationID>) throws(MartletError) -> Generation {
    throw MartletError(.unimplemented, "not yet")
  }

  /// Removes every generation that neither is in `roots` nor is needed by one that is, and drafts that nobody in `drafts` writes.
  /// - Returns: what was removed.
  package func collectGarbage(
    roots: Set<GenerationID>, drafts: Set<GenerationID>
  ) throws(MartletError) -> Set<GenerationID> {
    throw MartletError(.unimplemented, "not yet")
  }
}
