/// Called at every point of the store's work at which a crash leaves a different state on disk. Production passes none;
/// tests throw there, or copy the state that a crash would leave.
package struct SnapshotObserver: Sendable {
  package enum Moment: String, Sendable, CaseIterable {
    case draftMade
    case filesSynchronized
    case manifestWritten
    case draftSynchronized
    case generationRenamed
    case generationPublished
    case memoryMerged
    case deviceStateCopied
    case diskMerged
    case garbageRenamed
    case garbageRemoved
  }

  package var observe: @Sendable (Moment) throws -> Void

  package init(observe: @escaping @Sendable (Moment) throws -> Void = { _ in }) {
    self.observe = observe
  }
}
