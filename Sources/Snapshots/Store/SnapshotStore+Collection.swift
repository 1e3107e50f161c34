import Concurrency
import Glibc
import LinuxSystem
import Logging
package import Model
import SystemPackage

extension SnapshotStore {
  /// Ids of all published generations and drafts, sound or not.
  package func identifiers() throws(MartletError) -> Set<GenerationID> {
    Set(try ids(in: generationsDirectory) + ids(in: draftsDirectory))
  }

  /// Removes every generation that neither is in `roots` nor is needed by one that is, and drafts that nobody in
  /// `drafts` writes.
  ///
  /// What is on its way from draft to root belongs in `drafts` until it is in `roots`: an id there protects the
  /// published generation too. As long as a root's manifest cannot be read, nobody knows what it needs, and no
  /// generation is removed.
  ///
  /// A crash in between leaves less garbage and nothing else; the next call goes on.
  /// - Parameter candidates: what `identifiers` said before the caller looked for its roots; what came later is left
  ///   alone.
  /// - Returns: what was removed.
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

  /// For each generation, how many others need it, and one more when it is a root. Damaged ones count for nothing.
  package func referenceCounts(roots: Set<GenerationID>) throws(MartletError) -> [GenerationID: Int] {
    var counts: [GenerationID: Int] = [:]
    for id in try ids(in: generationsDirectory) {
      counts[id, default: 0] += roots.contains(id) ? 1 : 0
      guard let manifest = try? checkedManifest(of: id) else { continue }
      for other in manifest.needs where other != id { counts[other, default: 0] += 1 }
    }
    return counts
  }

  /// All that `roots` need, themselves included; nil when one cannot be read. A root that is not there needs nothing.
  private func needs(of roots: Set<GenerationID>) throws(MartletError) -> Set<GenerationID>? {
    var needed = roots
    for id in roots {
      do {
        needed.formUnion(try checkedManifest(of: id).needs)
      } catch {
        if error.code == .notFound { continue }
        logger.error(
          "no snapshot is removed while this one is damaged; destroy what uses it",
          metadata: ["snapshot.id": "\(id)", "error": "\(error)"])
        return nil
      }
    }
    return needed
  }

  private func moveToTrash(_ ids: [GenerationID], from directory: FilePath, as kind: String) throws(MartletError) {
    guard !ids.isEmpty else { return }
    try storing("unused snapshots could not be removed") { () throws(SystemError) in
      try Directories.create(trashDirectory, mode: 0o711)
      for id in ids {
        let source = directory.appending(id.uuidString)
        let target = trashDirectory.appending("\(kind)-\(id.uuidString)")
        guard rename(source.string, target.string) == 0 || Glibc.errno == ENOENT else {
          throw SystemError.current("rename", subject: source.string)
        }
      }
      // Names go before contents: no generation ever comes back in part.
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
