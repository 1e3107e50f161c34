import Glibc
import LinuxSystem
import Logging
package import Model
import SystemPackage

extension SnapshotStore {
  /// Returns a published generation after checking its manifest, its header and the presence of all files that it
  /// needs.
  /// - Throws: `not_found`; `snapshot_damaged` with a sentence that names the file and the fault.
  package func generation(_ id: GenerationID) throws(MartletError) -> Generation {
    try opened(id).generation
  }

  /// All published generations without the damaged ones, which are logged.
  package func generations() throws(MartletError) -> [Generation] {
    var found: [Generation] = []
    for id in try ids(in: generationsDirectory) {
      do {
        found.append(try generation(id))
      } catch {
        logger.error("a snapshot is damaged", metadata: ["generation.id": "\(id)", "error": "\(error)"])
      }
    }
    return found
  }

  /// Number of generations that hold memory and disk of this one, including itself.
  package func chainLength(of id: GenerationID) throws(MartletError) -> Int {
    try checkedManifest(of: id).needs.count
  }

  /// Bytes allocated for the generation alone, and for it and everything that it depends on. A file with several names
  /// counts once.
  package func allocatedBytes(of id: GenerationID) throws(MartletError) -> (own: Int64, chain: Int64) {
    let manifest = try generation(id).manifest
    return try storing("the size of snapshot \(id) could not be measured") { () throws(SystemError) in
      var counted: Set<FileStatus.Identity> = []
      let own = try allocatedBytes(in: path(of: id), counted: &counted)
      var chain = own
      for other in manifest.needs where other != id {
        chain += try allocatedBytes(in: path(of: other), counted: &counted)
      }
      return (own, chain)
    }
  }

  private func allocatedBytes(
    in directory: FilePath, counted: inout Set<FileStatus.Identity>
  ) throws(SystemError) -> Int64 {
    var sum = try FileStatus.of(directory.string, followingLinks: false)?.allocatedBytes ?? 0
    for name in try Directories.names(in: directory) {
      // A working set may be replaced at any time.
      guard let status = try FileStatus.of(directory.appending(name).string, followingLinks: false) else { continue }
      if counted.insert(status.identity).inserted { sum += status.allocatedBytes }
    }
    return sum
  }

  /// Ids that the directory entries name; entries with other names are ignored.
  func ids(in directory: FilePath) throws(MartletError) -> [GenerationID] {
    let names = try storing("the snapshot store could not be read") { () throws(SystemError) in
      try Directories.names(in: directory)
    }
    return names.compactMap { GenerationID(fileName: $0) }.sorted()
  }
}

extension GenerationID {
  /// Parses the form used in paths.
  init?(fileName: String) {
    self.init(wire: "\(GenerationKind.prefix)-\(fileName)")
  }
}
