import Glibc
import LinuxSystem
import Qcow
import SystemPackage

/// The file operations behind `QcowOverlays`. All block; none follows a symbolic link in the last component.
enum OverlayFile {
  private static let overlayMode: mode_t = 0o600

  /// Writes a new overlay that only this process's user can open. Not synchronized: see `DiskBackend` on durability.
  /// - Throws: `EEXIST` when the file exists; it is not touched then. After any other error it is removed.
  static func write(_ pieces: [QcowHeader.Piece], to path: FilePath) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(
      path.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: overlayMode)
    do throws(SystemError) {
      try SystemError.check("ftruncate", path.string) { ftruncate(descriptor.rawValue, Int(QcowHeader.emptyFileBytes)) }
      for piece in pieces {
        let count = try SystemError.check("pwrite", path.string) {
          pwrite(descriptor.rawValue, piece.bytes, piece.bytes.count, Int(piece.offset))
        }
        // A short write to a file means that there was no room for the rest.
        guard count == piece.bytes.count else { throw SystemError("pwrite", .noSpace, subject: path.string) }
      }
    } catch {
      unlink(path.string)
      throw error
    }
  }

  static func remove(_ path: FilePath) throws(SystemError) {
    guard unlink(path.string) == 0 || Glibc.errno == ENOENT else {
      throw SystemError.current("unlink", subject: path.string)
    }
  }

  /// Opens a regular file. Nothing else is waited for.
  /// - Parameter owner: the user that it has to belong to; nil for any.
  static func open(_ path: FilePath, _ access: Int32, owner: UInt32?) throws(SystemError) -> OwnedDescriptor {
    let descriptor = try OwnedDescriptor.open(path.string, access | O_NOFOLLOW | O_NONBLOCK)
    let status = try FileStatus.of(descriptor: descriptor.rawValue)
    guard status.kind == .file else { throw SystemError("open", .invalidArgument, subject: path.string) }
    guard owner.map({ $0 == status.ownerUID }) ?? true else {
      throw SystemError("open", .permissionDenied, subject: path.string)
    }
    return descriptor
  }

  /// Allocated blocks.
  static func allocatedBytes(of path: FilePath) throws(SystemError) -> Int64 {
    guard let status = try FileStatus.of(path.string, followingLinks: false) else {
      throw SystemError("stat", .noSuchFileOrDirectory, subject: path.string)
    }
    return status.allocatedBytes
  }

  /// The size of a base as a guest would see it.
  static func sizeBytes(of base: DiskBase) throws(QcowError) -> Int64 {
    let descriptor: OwnedDescriptor
    let status: FileStatus
    do throws(SystemError) {
      descriptor = try open(base.path, O_RDONLY, owner: nil)
      status = try FileStatus.of(descriptor: descriptor.rawValue)
    } catch {
      throw .system(error)
    }
    switch base.format {
    case .raw: return status.sizeBytes
    case .qcow2: return try QcowLayer.header(of: descriptor, ignoresBackingName: true).header.sizeBytes
    }
  }
}
