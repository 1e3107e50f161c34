import LinuxSystem
package import Model

extension SnapshotStore {
  /// Ids of all published generations and drafts, sound or not.
  package func identifiers() throws(MartletError) -> Set<GenerationID> {
    let drafts = try storing("the snapshot store could not be read") { () throws(SystemError) in
      try Directories.names(in: draftsDirectory)
    }
    return Set(try names() + drafts.compactMap { GenerationID(fileName: $0) })
  }

  /// Removes every generation that neither is in `roots` nor is needed by one that is, and drafts that nobody in `drafts` writes.
  /// - Returns: what was removed.
  package func collectGarbage(
    roots: Set<GenerationID>, drafts: Set<GenerationID>, among candidates: Set<GenerationID>
  ) throws(MartletError) -> Set<GenerationID> {
    throw MartletError(.unimplemented, "not yet")
  }
}
