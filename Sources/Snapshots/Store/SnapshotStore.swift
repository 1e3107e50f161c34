import Concurrency
import Glibc
import LinuxSystem
package import Logging
package import Model
package import SystemPackage

/// The generations of one host, on disk.
///
/// ```
/// DIRECTORY/drafts/UUID/        being written; nobody reads it
/// DIRECTORY/generations/UUID/   complete, durable, immutable
/// DIRECTORY/trash/              on its way out
/// ```
///
/// A generation appears under `generations` by one rename, after all of it is on stable storage, and goes by one
/// rename. Only root reads any of it: pagers and VMMs get open files. All calls block; any thread may make them.
package final class SnapshotStore: Sendable {
  package let directory: FilePath
  let logger: Logger
  let observer: SnapshotObserver
  /// Files whose digest was found right, by their identity on disk at that time.
  let verified = Mutex(VerifiedFiles())
  /// Generations that running compactions read and write; never garbage, whatever the caller's roots are.
  let compacting = Mutex<[GenerationID: Set<GenerationID>]>([:])

  package init(directory: FilePath, logger: Logger, observer: SnapshotObserver = SnapshotObserver()) {
    self.directory = directory
    self.logger = logger
    self.observer = observer
  }

  static let directoryMode: UInt32 = 0o700

  var generationsDirectory: FilePath { directory.appending("generations") }
  var draftsDirectory: FilePath { directory.appending("drafts") }
  /// Second names of disk layers, by which the disks of earlier versions lie over them. A VMM that such a version
  /// started may have its unpublished layers only here; none is added.
  package var namedLayersDirectory: FilePath { directory.appending("disk-layers") }
  var trashDirectory: FilePath { directory.appending("trash") }

  /// The name of a disk layer for the disks of earlier versions.
  package func namedLayer(of id: GenerationID) -> FilePath { namedLayersDirectory.appending("\(id.uuidString).qcow2") }

  /// Directory of a generation, whether it is published already or not.
  package func path(of id: GenerationID) -> FilePath {
    generationsDirectory.appending(id.uuidString)
  }

  package func workingSetPath(of id: GenerationID) -> FilePath {
    path(of: id).appending(SnapshotFile.workingSet.rawValue)
  }

  /// Makes the store's directories, which only root may enter, and takes the access away that earlier versions gave to
  /// the users of VMMs. Idempotent. Blocks.
  /// - Throws: `insufficient_storage`, `internal`.
  package func prepare() throws(MartletError) {
    try storing("the snapshot store could not be made") { () throws(SystemError) in try makeDirectories() }
    try restrictAccess()
  }

  private func makeDirectories() throws(SystemError) {
    for path in [directory, generationsDirectory, draftsDirectory, trashDirectory] {
      try Directories.createPrivate(path)
    }
  }

  /// Makes the private directory of a new generation. Blocks.
  /// - Throws: `already_exists`, `insufficient_storage`.
  package func begin(_ id: GenerationID) throws(MartletError) -> GenerationDraft {
    let draft = GenerationDraft(id: id, directory: draftsDirectory.appending(id.uuidString))
    guard try !isPresent(path(of: id)) else { throw MartletError(.alreadyExists, "snapshot \(id) already exists") }
    try storing("the snapshot could not be begun") { () throws(SystemError) in
      try makeDirectories()
      try SystemError.check("mkdir", draft.directory.string) { mkdir(draft.directory.string, Self.directoryMode) }
    }
    try reached(.draftMade)
    return draft
  }

  /// Removes a draft. Idempotent. Blocks.
  package func discard(_ draft: GenerationDraft) throws(MartletError) {
    try storing("the unfinished snapshot could not be removed") { () throws(SystemError) in
      try Directories.removeTree(draft.directory)
    }
  }

  /// Tells the observer.
  func reached(_ moment: SnapshotObserver.Moment) throws(MartletError) {
    do {
      try observer.observe(moment)
    } catch {
      throw MartletError.wrapping(error)
    }
  }

  func isPresent(_ path: FilePath) throws(MartletError) -> Bool {
    try storing("the snapshot store could not be read") { () throws(SystemError) in
      try FileStatus.of(path.string, followingLinks: false) != nil
    }
  }
}
