package import Model

extension SnapshotStore {
  /// Removes every generation that neither is in `roots` nor is needed by one that is, and drafts that nobody in `drafts` writes.
  /// - Returns: what was removed.
  package func collectGarbage(
    roots: Set<GenerationID>, drafts: Set<GenerationID>
  ) throws(MartletError) -> Set<GenerationID> {
    throw MartletError(.unimplemented, "not yet")
  }
}
