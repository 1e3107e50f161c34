import Glibc
import LinuxSystem
import Model
import SystemPackage

extension SnapshotStore {
  /// Ensures that the disk layer of a published generation has the name that overlays refer to: a hard link, which a
  /// power failure may have lost. Idempotent.
  /// - Throws: `snapshot_damaged` when the name belongs to another file.
  func nameDiskLayer(of id: GenerationID) throws(MartletError) {
    let layer = path(of: id).appending(SnapshotFile.diskLayer.rawValue)
    let name = diskLayer(of: id)
    do {
      if try isSameFile(layer, name) { return }
      try Directories.create(diskLayersDirectory, mode: 0o700)
      if link(layer.string, name.string) != 0 {
        let failure = SystemError.current("link", subject: name.string)
        guard failure.errno == .fileExists else { throw failure }
        // Either another thread created the link, or the name is another file's.
        if try isSameFile(layer, name) { return }
      } else {
        return try SmallFile.synchronizeDirectory(diskLayersDirectory)
      }
    } catch let error as SystemError {
      throw .unreadable(id, .diskLayer, error)
    } catch {
      throw MartletError.wrapping(error)
    }
    throw .damaged(id, .diskLayer, "is not the file that other disk layers refer to")
  }

  private func isSameFile(_ one: FilePath, _ other: FilePath) throws(SystemError) -> Bool {
    guard let one = try FileStatus.of(one.string, followingLinks: false)?.identity else {
      throw SystemError("stat", .noSuchFileOrDirectory, subject: one.string)
    }
    guard let other = try FileStatus.of(other.string, followingLinks: false)?.identity else { return false }
    return one.device == other.device && one.inode == other.inode
  }
}
