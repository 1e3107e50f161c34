import CLinux
import Glibc
import SystemPackage

/// Reads the memory of another process. Source: process_vm_readv(2).
package enum ProcessMemory {
  /// Maximum number of ranges per call (UIO_MAXIOV).
  package static let maximumRanges = 1_024

  /// Reads `ranges`, one after the other, into `buffer`, which must be large enough.
  /// - Throws: `SystemError`; with ESRCH when the process has ended, EFAULT when a range is not mapped.
  package static func read(
    pid: Int32, ranges: [Range<UInt64>], into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemError) {
    let total = ranges.reduce(0) { $0 + Int($1.upperBound - $1.lowerBound) }
    precondition(total <= buffer.count && ranges.count <= maximumRanges)
    var offset = 0
    while offset < total {
      let remote = remainder(of: ranges, after: offset)
      var local = iovec(iov_base: buffer.baseAddress.map { $0 + offset }, iov_len: total - offset)
      let count = clinux_process_read(pid, &local, 1, remote, remote.count)
      guard count > 0 else {
        throw SystemError(
          "process_vm_readv", count < 0 ? Errno(rawValue: Int32(-count)) : .badAddress, subject: "process \(pid)")
      }
      offset += count
    }
  }

  /// The parts of `ranges` that remain after their first `bytes` bytes have been read.
  private static func remainder(of ranges: [Range<UInt64>], after bytes: Int) -> [iovec] {
    var skipped = UInt64(bytes)
    var vectors: [iovec] = []
    for range in ranges {
      let length = range.upperBound - range.lowerBound
      if skipped >= length {
        skipped -= length
        continue
      }
      vectors.append(
        iovec(
          iov_base: UnsafeMutableRawPointer(bitPattern: UInt(range.lowerBound + skipped)),
          iov_len: Int(length - skipped)))
      skipped = 0
    }
    return vectors
  }
}
