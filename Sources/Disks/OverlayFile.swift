import Glibc
import LinuxSystem
import SystemPackage

/// The file operations of `QcowOverlays`. All block; none follows a symbolic link in the last component.
enum OverlayFile {
  private static let layerMode: mode_t = 0o444
  /// Mode of a captured layer, which its VMM may still use as its disk after a failure.
  private static let capturedMode: mode_t = 0o644
  private static let unchangedGroup = gid_t.max

  /// Writes a new overlay that only `ownerUID` can open. Not synchronized: see `DiskBackend` on durability.
  /// - Throws: `EEXIST` when the file exists; it is not changed then. After any other error the file is removed.
  static func write(_ header: QcowHeader, to path: FilePath, ownerUID: UInt32) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(path.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    do throws(SystemError) {
      try SystemError.check("ftruncate", path.string) { ftruncate(descriptor.rawValue, Int(QcowHeader.fileBytes)) }
      for piece in header.pieces() {
        let count = try SystemError.check("pwrite", path.string) {
          pwrite(descriptor.rawValue, piece.bytes, piece.bytes.count, Int(piece.offset))
        }
        // A short write to a file means that the file system is full.
        guard count == piece.bytes.count else { throw SystemError("pwrite", .noSpace, subject: path.string) }
      }
      try SystemError.check("fchown", path.string) { fchown(descriptor.rawValue, ownerUID, unchangedGroup) }
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

  /// Makes the overlay read-only and durable under its new name.
  ///
  /// The content is synchronized before the new name exists, and the new name before the old one is removed. After a
  /// crash there is the disk, or one file with both names (a second call completes the operation), or the layer.
  static func freeze(_ path: FilePath, as layer: FilePath) throws(SystemError) {
    if try isPresent(path) {
      let descriptor = try OwnedDescriptor.open(path.string, O_RDWR | O_NOFOLLOW)
      try SystemError.check("fchown", path.string) { fchown(descriptor.rawValue, geteuid(), unchangedGroup) }
      try SystemError.check("fchmod", path.string) { fchmod(descriptor.rawValue, layerMode) }
      try SystemError.check("fsync", path.string) { fsync(descriptor.rawValue) }
      if Glibc.link(path.string, layer.string) != 0 {
        let failure = SystemError.current("link", subject: layer.string)
        guard failure.errno == .fileExists, try isSameFile(path, layer) else { throw failure }
      }
      try SmallFile.synchronizeDirectory(layer.removingLastComponent())
      try remove(path)
      try SmallFile.synchronizeDirectory(path.removingLastComponent())
      return
    }
    // If the disk does not exist, only a completed freeze is success.
    guard try isPresent(layer) else { throw SystemError("open", .noSuchFileOrDirectory, subject: path.string) }
  }

  /// Links the overlay, which its owner may still have open, to a name under which every VMM can read it.
  static func capture(_ path: FilePath, as layer: FilePath) throws(SystemError) {
    try SystemError.check("chmod", path.string) { chmod(path.string, capturedMode) }
    try link(path, as: layer)
  }

  static func link(_ path: FilePath, as name: FilePath) throws(SystemError) {
    guard Glibc.link(path.string, name.string) != 0 else { return }
    let failure = SystemError.current("link", subject: name.string)
    guard failure.errno == .fileExists, try isSameFile(path, name) else { throw failure }
  }

  static func seal(_ layer: FilePath) throws(SystemError) {
    try SystemError.check("chown", layer.string) { chown(layer.string, geteuid(), unchangedGroup) }
    try SystemError.check("chmod", layer.string) { chmod(layer.string, layerMode) }
  }

  /// Renames a finished file durably; an older file of that name is replaced.
  static func publish(_ partial: FilePath, as path: FilePath) throws(SystemError) {
    do throws(SystemError) {
      let descriptor = try OwnedDescriptor.open(partial.string, O_RDWR | O_NOFOLLOW)
      try SystemError.check("fsync", partial.string) { fsync(descriptor.rawValue) }
      try SystemError.check("rename", path.string) { rename(partial.string, path.string) }
      try SmallFile.synchronizeDirectory(path.removingLastComponent())
    } catch {
      unlink(partial.string)
      throw error
    }
  }

  /// Allocated bytes; the unit of st_blocks is 512 on every file system. Source: stat(3type).
  static func allocatedBytes(of path: FilePath) throws(SystemError) -> Int64 {
    Int64(try status(of: path).st_blocks) * 512
  }

  /// The size of a base as a guest would see it.
  static func sizeBytes(of base: DiskBase) throws(SystemError) -> Int64 {
    let status = try status(of: base.path)
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw SystemError("stat", .invalidArgument, subject: base.path.string)
    }
    switch base.format {
    case .raw: return Int64(status.st_size)
    case .qcow2: return try qcowSizeBytes(base.path)
    }
  }

  /// Field `size` of a qcow2 header. Source: QEMU docs/interop/qcow2.txt.
  private static func qcowSizeBytes(_ path: FilePath) throws(SystemError) -> Int64 {
    let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW)
    var header = [UInt8](repeating: 0, count: 32)
    let count = try SystemError.check("pread", path.string) { pread(descriptor.rawValue, &header, header.count, 0) }
    let size = header[24..<32].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard count == header.count, header[0..<4] == [0x51, 0x46, 0x49, 0xFB], let size = Int64(exactly: size) else {
      throw SystemError("pread", .invalidArgument, subject: path.string)
    }
    return size
  }

  private static func status(of path: FilePath) throws(SystemError) -> stat {
    var status = stat()
    try SystemError.check("stat", path.string) { stat(path.string, &status) }
    return status
  }

  private static func isPresent(_ path: FilePath) throws(SystemError) -> Bool {
    if access(path.string, F_OK) == 0 { return true }
    guard Glibc.errno == ENOENT else { throw SystemError.current("access", subject: path.string) }
    return false
  }

  private static func isSameFile(_ one: FilePath, _ other: FilePath) throws(SystemError) -> Bool {
    let (one, other) = (try status(of: one), try status(of: other))
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino
  }
}
