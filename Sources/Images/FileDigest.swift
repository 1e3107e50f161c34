import Crypto
import Glibc
import LinuxSystem
import SystemPackage

/// Computes SHA-256 digests. Files are read in pieces on a thread of the blocking pool.
enum FileDigest {
  private static let pieceBytes = 1_048_576

  /// - Throws: `SystemError` when the file cannot be read, `CancellationError` when the task was cancelled while it
  ///   ran.
  static func sha256(of path: FilePath) async throws -> ImageDigest {
    let digest = try await BlockingPool.shared.run { () throws(SystemError) -> ImageDigest in
      let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY)
      var hash = SHA256()
      var buffer = [UInt8](repeating: 0, count: pieceBytes)
      while true {
        let count = try SystemError.check("read", path.string) { read(descriptor.rawValue, &buffer, buffer.count) }
        if count == 0 { break }
        buffer.withUnsafeBytes { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[0..<count])) }
      }
      return ImageDigest(bytes: hash.finalize())
    }
    try Task.checkCancellation()
    return digest
  }

  static func sha256(of text: String) -> ImageDigest {
    ImageDigest(bytes: SHA256.hash(data: Array(text.utf8)))
  }
}
