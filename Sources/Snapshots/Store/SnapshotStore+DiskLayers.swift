import Glibc
import LinuxSystem
package import Model
import Qcow
package import SystemPackage

/// Disk layers name no other file. Which ones lie below each other is in the manifests; whoever runs a disk over a
/// generation opens the files of the chain.
extension SnapshotStore {
  /// The disk layers of a generation, nearest first, without the image at the bottom.
  package func diskLayers(of generation: Generation) -> [(id: GenerationID, path: FilePath)] {
    ([generation.id] + generation.manifest.diskParents).map { ($0, diskLayerPath(of: $0)) }
  }

  /// The file of a published generation's disk layer.
  package func diskLayerPath(of id: GenerationID) -> FilePath {
    path(of: id).appending(SnapshotFile.diskLayer.rawValue)
  }

  /// The layer of a published generation, its header and L1 table checked. Layers of earlier versions name the file
  /// below; the name is not used.
  func diskLayer(of id: GenerationID, sizeBytes: Int64?) throws(MartletError) -> QcowLayer {
    do {
      return try QcowLayer(
        try Self.open(diskLayerPath(of: id)), sizeBytes: sizeBytes, ignoresBackingName: true)
    } catch {
      throw Self.meaning(of: error, id)
    }
  }

  /// Checks that the file of a draft is a disk layer as this version writes it.
  func checkDiskLayer(of draft: GenerationDraft, sizeBytes: Int64) throws(MartletError) {
    do {
      try QcowLayer.header(of: try Self.open(draft.diskPath), sizeBytes: sizeBytes)
    } catch {
      throw Self.meaning(of: error, draft.id)
    }
  }

  /// Takes the access away that earlier versions gave to the users of VMMs, which opened layers by name. Idempotent.
  func restrictAccess() throws(MartletError) {
    try storing("the snapshot store's permissions could not be set") { () throws(SystemError) in
      try Self.setMode(of: namedLayersDirectory, Self.directoryMode)
    }
    for id in try ids(in: generationsDirectory) {
      try storing("the permissions of snapshot \(id) could not be set") { () throws(SystemError) in
        try Self.setMode(of: path(of: id), Self.directoryMode)
        try Self.setMode(of: diskLayerPath(of: id), Self.privateMode)
      }
    }
  }

  private static func setMode(of path: FilePath, _ mode: UInt32) throws(SystemError) {
    guard let status = try FileStatus.of(path.string, followingLinks: false), status.kind != .link else { return }
    if status.ownerUID != geteuid() {
      try SystemError.check("chown", path.string) { chown(path.string, geteuid(), gid_t.max) }
    }
    guard status.mode != mode else { return }
    try SystemError.check("chmod", path.string) { chmod(path.string, mode) }
  }

  private static func open(_ path: FilePath) throws(QcowError) -> OwnedDescriptor {
    do throws(SystemError) {
      return try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    } catch {
      throw .system(error)
    }
  }

  private static func meaning(of error: QcowError, _ id: GenerationID) -> MartletError {
    switch error {
    case .system(let error): .unreadable(id, .diskLayer, error)
    case .format(let error): .damaged(id, .diskLayer, "is not a disk layer", cause: error)
    }
  }
}
