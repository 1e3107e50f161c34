import Crypto
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// Computes SHA-256 digests of whole files, read through a buffer.
enum ContentDigest {
  private static let bufferBytes = 1_048_576

  struct Result: Equatable {
    /// Hexadecimal.
    var digest: String
    var sizeBytes: Int64
  }

  static func of(_ path: FilePath) throws(SystemError) -> Result {
    let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bufferBytes, alignment: 64)
    defer { buffer.deallocate() }
    var hash = SHA256()
    var offset = 0
    while true {
      let count = try StoreFile.read(descriptor, buffer, at: offset, path: path)
      hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[0..<count]))
      offset += count
      if count < bufferBytes { return Result(digest: Hexadecimal.text(hash.finalize()), sizeBytes: Int64(offset)) }
    }
  }
}

extension ContentDigest {
  /// Computes the digest of bytes in memory.
  static func of(_ bytes: [UInt8]) -> String {
    Hexadecimal.text(SHA256.hash(data: bytes))
  }
}
