package import Model

extension SnapshotStore {
  /// Writes a generation with the same content as `id` that depends on those in `kept` only: the layers between are merged.
  /// The sandbox's generation stays as it is until the caller commits the new one. Slow, reads and writes layers; blocks.
  package func compact(_ id: GenerationID, as new: GenerationID, keeping kept: Set<GenerationID>) throws(MartletError) -> Generation {
    throw MartletError(.unimplemented, "not yet")
  }
}
