import CLinux
import Glibc
package import SystemPackage

/// Copies files that contain large holes.
package enum SparseFile {
  /// Copies a file and preserves its holes. The target must not exist and is not synchronized; after an error it may be
  /// incomplete. Blocks.
  package static func copy(_ source: FilePath, to target: FilePath, mode: UInt32) throws(SystemError) {
    let input = try OwnedDescriptor.open(source.string, O_RDONLY | O_NOFOLLOW)
    let output = try OwnedDescriptor.open(target.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
    // Whatever the process's umask is.
    try SystemError.check("fchmod", target.string) { fchmod(output.rawValue, mode) }
    let size = Int(try FileStatus.of(descriptor: input.rawValue).sizeBytes)
    try SystemError.check("ftruncate", target.string) { ftruncate(output.rawValue, size) }
    var offset = 0
    while offset < size {
      let start = lseek(input.rawValue, offset, clinux_seek_data)
      // The rest of the file is a hole.
      if start < 0, Glibc.errno == ENXIO { return }
      try SystemError.check("lseek", source.string) { start }
      let end = try SystemError.check("lseek", source.string) { lseek(input.rawValue, start, clinux_seek_hole) }
      try copy(start..<end, input, output, path: source)
      offset = end
    }
  }

  private static func copy(
    _ range: Range<Int>, _ input: OwnedDescriptor, _ output: OwnedDescriptor, path: FilePath
  ) throws(SystemError) {
    try copyRange(
      from: input, at: Int64(range.lowerBound), to: output, at: Int64(range.lowerBound), count: Int64(range.count),
      path: path)
  }

  /// Copies bytes between two files of one file system, which shares their blocks where it can (copy_file_range(2)).
  /// Blocks.
  ///
  /// - Parameters:
  ///   - count: with none or less nothing is copied.
  ///   - path: of the target, for errors.
  /// - Throws: `EIO` when the source ends earlier.
  package static func copyRange(
    from source: OwnedDescriptor, at sourceOffset: Int64, to target: OwnedDescriptor, at targetOffset: Int64,
    count: Int64, path: FilePath
  ) throws(SystemError) {
    var done: Int64 = 0
    while done < count {
      let copied = try SystemError.check("copy_file_range", path.string) {
        clinux_copy_file_range_at(
          source.rawValue, off_t(sourceOffset + done), target.rawValue, off_t(targetOffset + done), Int(count - done))
      }
      guard copied > 0 else { throw SystemError("copy_file_range", .ioError, subject: path.string) }
      done += Int64(copied)
    }
  }
}
