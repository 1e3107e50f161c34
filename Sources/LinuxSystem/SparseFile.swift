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
    for descriptor in [input, output] {
      try SystemError.check("lseek", path.string) { lseek(descriptor.rawValue, range.lowerBound, SEEK_SET) }
    }
    var left = range.count
    while left > 0 {
      let count = try SystemError.check("copy_file_range", path.string) {
        clinux_copy_file_range(input.rawValue, output.rawValue, left)
      }
      guard count > 0 else { throw SystemError("copy_file_range", .ioError, subject: path.string) }
      left -= count
    }
  }
}
