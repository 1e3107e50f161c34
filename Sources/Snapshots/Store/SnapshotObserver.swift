/// Called at every moment of the store's work after which a crash leaves something different on disk. Production passes
/// none; tests fail there, or keep what a crash would have left.
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
