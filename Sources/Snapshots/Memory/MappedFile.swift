import Glibc
import LinuxSystem
import SystemPackage

/// A file of the store mapped for reading, with its descriptor; both are released with the last reference.
///
/// Published files never change and are removed as a whole, so the bytes stay valid as long as the mapping. Reading a
/// page that the disk cannot deliver raises SIGBUS. Therefore only processes that serve one VM and end with it read
/// through a mapping.
final class MappedFile: @unchecked Sendable {
  // Unchecked because of the pointer; the mapping is read-only.
  let descriptor: OwnedDescriptor
  let bytes: UnsafeRawBufferPointer

  /// - Parameter size: size of the whole file, which the caller has compared with the file's header; not 0.
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
