import Glibc
package import SystemPackage

/// A small file that is mapped for reading and writing; what was stored in it outlives the process, however that ends.
package final class SharedFile {
  package let bytes: UnsafeMutableRawBufferPointer

  /// Opens or makes the file, brings it to `sizeBytes` (new bytes are zero) and maps it.
  package init(_ path: FilePath, sizeBytes: Int, mode: UInt32 = 0o600) throws(SystemError) {
    precondition(sizeBytes > 0)
    let descriptor = try OwnedDescriptor.open(path.string, O_RDWR | O_CREAT | O_NOFOLLOW, mode: mode)
    // Allocated now: a store into a hole of a full file system would be a SIGBUS.
    let failure = posix_fallocate(descriptor.rawValue, 0, off_t(sizeBytes))
    guard failure == 0 else { throw SystemError("posix_fallocate", Errno(rawValue: failure), subject: path.string) }
    try SystemError.check("ftruncate", path.string) { ftruncate(descriptor.rawValue, off_t(sizeBytes)) }
    let address = mmap(nil, sizeBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.rawValue, 0)
    guard let address, address != MAP_FAILED else { throw SystemError.current("mmap", subject: path.string) }
    bytes = UnsafeMutableRawBufferPointer(start: address, count: sizeBytes)
  }

  deinit {
    munmap(bytes.baseAddress, bytes.count)
  }
}
