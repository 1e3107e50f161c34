import Glibc
import LinuxSystem
import SystemPackage

/// A file of the store mapped for reading, with its descriptor; both go with the last reference.
///
/// Published files never change and are removed whole, so that the bytes stay as long as the mapping. Reading a page
/// that the disk cannot deliver raises SIGBUS: only processes that serve one VM, which ends with them, read through a
/// mapping.
final class MappedFile: @unchecked Sendable {
  // Unchecked for the pointer: nobody writes through it.
  let descriptor: OwnedDescriptor
  let bytes: UnsafeRawBufferPointer

  /// - Parameter size: the whole file's, compared by the caller with what the file says of itself; not 0.
  init(_ descriptor: OwnedDescriptor, size: Int, path: FilePath) throws(SystemError) {
    guard try FileStatus.of(descriptor: descriptor.rawValue).sizeBytes == Int64(size) else {
      throw SystemError("mmap", .invalidArgument, subject: path.string)
    }
    let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor.rawValue, 0)
    guard let address, address != MAP_FAILED else { throw SystemError.current("mmap", subject: path.string) }
    self.descriptor = descriptor
    bytes = UnsafeRawBufferPointer(start: address, count: size)
  }

  deinit {
    munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
  }
}
