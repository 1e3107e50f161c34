import Glibc
import LinuxSystem
import SystemPackage

/// Reads and writes whole files of the store. All calls block; none follows a symbolic link in the last component.
enum StoreFile {
  /// Reads a file of at most `maximumBytes`.
  /// - Throws: `EFBIG` when it is larger.
  static func read(_ path: FilePath, maximumBytes: Int) throws(SystemError) -> [UInt8] {
    let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW)
    let size = try FileStatus.of(descriptor: descriptor.rawValue).sizeBytes
    guard size <= Int64(maximumBytes) else { throw SystemError("read", .fileTooLarge, subject: path.string) }
    var content = [UInt8](repeating: 0, count: Int(size))
    try fill(&content, from: descriptor, path: path)
    return content
  }

  /// Reads the first bytes of a file, as many as `content` has; shortens `content` when the file is shorter.
  static func fill(_ content: inout [UInt8], from descriptor: OwnedDescriptor, path: FilePath) throws(SystemError) {
    let count = try content.withUnsafeMutableBufferPointer { buffer throws(SystemError) in
      try read(descriptor, UnsafeMutableRawBufferPointer(buffer), at: 0, path: path)
    }
    content.removeLast(content.count - count)
  }

  /// Fills `buffer` with the bytes from `offset` on.
  /// - Returns: the number of bytes read; smaller than the buffer only at the end of the file.
  static func read(
    _ descriptor: OwnedDescriptor, _ buffer: UnsafeMutableRawBufferPointer, at offset: Int, path: FilePath
  ) throws(SystemError) -> Int {
    var done = 0
    while done < buffer.count {
      let count = try SystemError.check("pread", path.string) {
        pread(descriptor.rawValue, buffer.baseAddress.map { $0 + done }, buffer.count - done, offset + done)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }

  /// Writes all of `bytes` at `offset`.
  static func write(
    _ descriptor: OwnedDescriptor, _ bytes: UnsafeRawBufferPointer, at offset: Int, path: FilePath
  ) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      let count = try SystemError.check("pwrite", path.string) {
        pwrite(descriptor.rawValue, bytes.baseAddress.map { $0 + done }, bytes.count - done, offset + done)
      }
      // Only a full file system accepts no bytes.
      guard count > 0 else { throw SystemError("pwrite", .noSpace, subject: path.string) }
      done += count
    }
  }

  /// Writes a new file without synchronizing it.
  /// - Throws: `EEXIST` when the file exists.
  static func create(_ path: FilePath, _ bytes: [UInt8], mode: UInt32) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(path.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
    try bytes.withUnsafeBufferPointer { buffer throws(SystemError) in
      try write(descriptor, UnsafeRawBufferPointer(buffer), at: 0, path: path)
    }
  }

  static func remove(_ path: FilePath) throws(SystemError) {
    guard unlink(path.string) == 0 || Glibc.errno == ENOENT else {
      throw SystemError.current("unlink", subject: path.string)
    }
  }
}
