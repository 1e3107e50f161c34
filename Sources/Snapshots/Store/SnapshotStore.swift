import Concurrency
import Glibc
import LinuxSystem
package import Logging
package import Model
package import SystemPackage

/// The generations of one host, on disk.
///
/// ```
/// DIRECTORY/drafts/UUID/             being written; private to the writer
/// DIRECTORY/generations/UUID/        complete, durable, immutable
/// DIRECTORY/disk-layers/UUID.qcow2   second name of a generation's disk layer, to which overlays refer;
///                                    exists from the capture on, before the generation is published
/// DIRECTORY/trash/                   being removed
/// ```
///
/// One rename publishes a generation under `generations` after all of it is on stable storage, and one rename removes
/// it. Disk layers refer to their backing files by absolute path, so the directory cannot be moved. All calls block;
/// any thread may make them.
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

  var generationsDirectory: FilePath { directory.appending("generations") }
  var draftsDirectory: FilePath { directory.appending("drafts") }
  /// VMMs may traverse this directory but not list it.
  package var diskLayersDirectory: FilePath { directory.appending("disk-layers") }
  var trashDirectory: FilePath { directory.appending("trash") }

  /// The name by which overlays refer to the disk layer of a generation. The creator of an overlay makes sure that it
  /// exists.
  package func diskLayer(of id: GenerationID) -> FilePath { diskLayersDirectory.appending("\(id.uuidString).qcow2") }

  /// Directory of a generation, whether it is published already or not.
  package func path(of id: GenerationID) -> FilePath {
    generationsDirectory.appending(id.uuidString)
  }

  package func workingSetPath(of id: GenerationID) -> FilePath {
    path(of: id).appending(SnapshotFile.workingSet.rawValue)
  }

  /// Makes the store's directories, which only root may enter. Idempotent. Blocks.
  /// - Throws: `insufficient_storage`, `internal`.
  package func prepare() throws(MartletError) {
    try storing("the snapshot store could not be made") { () throws(SystemError) in try makeDirectories() }
  }

  private func makeDirectories() throws(SystemError) {
    for path in [directory, generationsDirectory, draftsDirectory, diskLayersDirectory, trashDirectory] {
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
      try SystemError.check("mkdir", draft.directory.string) { mkdir(draft.directory.string, 0o700) }
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
