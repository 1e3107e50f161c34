import Concurrency
import Glibc
import LinuxSystem
import Logging
package import Model
import SystemPackage

extension SnapshotStore {
  /// Ids of all published generations and drafts, valid or not.
  package func identifiers() throws(MartletError) -> Set<GenerationID> {
    Set(try ids(in: generationsDirectory) + ids(in: draftsDirectory))
  }

  /// Removes every generation that is neither in `roots` nor needed by one of them, and every draft that is not in
  /// `drafts`.
  ///
  /// A generation that is about to become a root belongs in `drafts` until it is in `roots`: an id there protects the
  /// published generation too. While the manifest of a root cannot be read, its dependencies are unknown, and no
  /// generation is removed.
  ///
  /// After a crash during a collection some garbage is gone and everything else is intact; the next call continues.
  /// - Parameter candidates: the result of `identifiers` from before the caller determined its roots; later generations
  ///   and drafts are not removed.
  /// - Returns: the removed ids.
  package func collectGarbage(
    roots: Set<GenerationID>, drafts: Set<GenerationID>, among candidates: Set<GenerationID>
  ) throws(MartletError) -> Set<GenerationID> {
    try emptyTrash()
    let busy = compacting.withLock { $0.values.reduce(into: drafts) { $0.formUnion($1) } }
    let abandoned = try ids(in: draftsDirectory).filter { candidates.contains($0) && !busy.contains($0) }
    let needed = try needs(of: roots.union(busy))
    let unneeded = try ids(in: generationsDirectory).filter { id in
      guard let needed else { return false }
      return candidates.contains(id) && !needed.contains(id)
    }
    try moveToTrash(abandoned, from: draftsDirectory, as: "draft")
    try moveToTrash(unneeded, from: generationsDirectory, as: "generation")
    try reached(.garbageRenamed)
    try emptyTrash()
    try reached(.garbageRemoved)
    let removed = Set(abandoned).union(unneeded)
    if !removed.isEmpty { logger.info("snapshots removed", metadata: ["count": "\(removed.count)"]) }
    return removed
  }

  /// All generations that `roots` need, including themselves; nil when a manifest cannot be read. An absent root needs
  /// nothing.
  private func needs(of roots: Set<GenerationID>) throws(MartletError) -> Set<GenerationID>? {
    var needed = roots
    for id in roots {
      do {
        needed.formUnion(try checkedManifest(of: id).needs)
      } catch {
        if error.code == .notFound { continue }
        logger.error(
          "no snapshots are removed while this one is damaged; destroy the sandboxes and snapshots that use it",
          metadata: ["generation.id": "\(id)", "error": "\(error)"])
        return nil
      }
    }
    return needed
  }

  private func moveToTrash(_ ids: [GenerationID], from directory: FilePath, as kind: String) throws(MartletError) {
    guard !ids.isEmpty else { return }
    try storing("unused snapshots could not be removed") { () throws(SystemError) in
      try Directories.create(trashDirectory, mode: Self.directoryMode)
      for id in ids {
        let source = directory.appending(id.uuidString)
        let target = trashDirectory.appending("\(kind)-\(id.uuidString)")
        guard rename(source.string, target.string) == 0 || Glibc.errno == ENOENT else {
          throw SystemError.current("rename", subject: source.string)
        }
      }
      // The new names are durable before any content is removed, so that no generation reappears in part.
      try SmallFile.synchronizeDirectory(directory)
      try SmallFile.synchronizeDirectory(trashDirectory)
    }
  }

  private func emptyTrash() throws(MartletError) {
    try storing("unused snapshots could not be removed") { () throws(SystemError) in
      for name in try Directories.names(in: trashDirectory) {
        try Directories.removeTree(trashDirectory.appending(name))
      }
    }
  }
}
