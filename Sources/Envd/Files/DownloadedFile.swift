import CLinux
import Glibc
import LinuxSystem
import SystemPackage

/// A regular file that is open for a download.
struct DownloadedFile: Sendable {
  let path: String
  let descriptor: OwnedDescriptor
  let size: Int64
  /// Changes whenever the content may have changed.
  let entityTag: String

  /// Opens the file. Blocks, but does not wait for a pipe's writer and does not open devices.
  static func open(_ path: String) throws(FileFailure) -> DownloadedFile {
    do {
      // Checked first through O_PATH, because opening a device can have effects. The file that is then opened is
      // checked again, because it may be another one.
      var status = try examine(OwnedDescriptor.open(path, clinux_o_path), path)
      try requireRegular(status, path)
      let descriptor = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
      status = try examine(descriptor, path)
      try requireRegular(status, path)
      let changed = UInt64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ UInt64(status.st_mtim.tv_nsec)
      let parts = [UInt64(status.st_ino), changed, UInt64(status.st_size)].map { String($0, radix: 16) }
      return DownloadedFile(
        path: path, descriptor: descriptor, size: Int64(status.st_size),
        entityTag: "\"\(parts.joined(separator: "-"))\"")
    } catch let error as SystemError {
      throw FileFailure(error, path: path)
    } catch {
      throw FileFailure.describing(error)
    }
  }

  private static func examine(_ descriptor: OwnedDescriptor, _ path: String) throws(SystemError) -> stat {
    var status = stat()
    try SystemError.check("fstat", path) { fstat(descriptor.rawValue, &status) }
    return status
  }

  private static func requireRegular(_ status: stat, _ path: String) throws(FileFailure) {
    switch status.st_mode & S_IFMT {
    case S_IFREG: return
    case S_IFDIR: throw FileFailure(.invalidArgument, "path '\(path)' is a directory")
    default: throw FileFailure(.invalidArgument, "path '\(path)' is not a regular file")
    }
  }
}
