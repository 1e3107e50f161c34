import CLinux
import Glibc
package import SystemPackage

/// A small file that is mapped for reading and writing. Stored bytes outlive the process, however it ends.
package final class SharedFile {
  package let bytes: UnsafeMutableRawBufferPointer
  private let descriptor: OwnedDescriptor

  /// Opens or makes the file, sets its size to `sizeBytes` (new bytes are zero) and maps it.
  package init(_ path: FilePath, sizeBytes: Int, mode: UInt32 = 0o600) throws(SystemError) {
    precondition(sizeBytes > 0)
    let descriptor = try OwnedDescriptor.open(path.string, O_RDWR | O_CREAT | O_NOFOLLOW, mode: mode)
    // Blocks are allocated now: a store into a hole on a full file system would raise SIGBUS.
    let failure = posix_fallocate(descriptor.rawValue, 0, off_t(sizeBytes))
    guard failure == 0 else { throw SystemError("posix_fallocate", Errno(rawValue: failure), subject: path.string) }
    try SystemError.check("ftruncate", path.string) { ftruncate(descriptor.rawValue, off_t(sizeBytes)) }
    let address = mmap(nil, sizeBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.rawValue, 0)
    guard let address, address != MAP_FAILED else { throw SystemError.current("mmap", subject: path.string) }
    self.descriptor = descriptor
    bytes = UnsafeMutableRawBufferPointer(start: address, count: sizeBytes)
  }

  deinit {
    munmap(bytes.baseAddress, bytes.count)
  }

  // MARK: - Between processes

  /// Takes the file's lock, which is released with this object or the process.
  /// - Returns: false when another process or object holds it.
  package func lock() throws(SystemError) -> Bool {
    let result = clinux_file_lock(descriptor.rawValue)
    guard result >= 0 else { throw SystemError("lock", Errno(rawValue: -result)) }
    return result == 1
  }

  package func isLockedElsewhere() throws(SystemError) -> Bool {
    let result = clinux_file_is_locked(descriptor.rawValue)
    guard result >= 0 else { throw SystemError("lock", Errno(rawValue: -result)) }
    return result == 1
  }

  /// Loads a little-endian word that other processes store or load at the same time, with acquire semantics.
  /// - Precondition: `offset` is a multiple of 8.
  package func sharedWord(at offset: Int) -> UInt64 {
    UInt64(littleEndian: clinux_shared_load(word(at: offset)))
  }

  package func setSharedWord(at offset: Int, _ value: UInt64) {
    clinux_shared_store(word(at: offset), value.littleEndian)
  }

  private func word(at offset: Int) -> UnsafeMutablePointer<UInt64> {
    UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<(offset + 8)]).bindMemory(to: UInt64.self).baseAddress
      .unsafelyUnwrapped
  }

  /// Locks the first bytes in memory. Best effort: the system may not permit it.
  package func keepInMemory(bytes count: Int) {
    _ = mlock(bytes.baseAddress, count)
  }
}
