import Glibc
package import LinuxSystem
package import SystemPackage

/// The guest's console output on disk: the newest `maximumBytes` to `2 × maximumBytes`, in `console.log` and
/// `console.log.1`.
package struct ConsoleLog: Sendable {
  package static let maximumBytes = 262_144

  package let path: FilePath
  private let previous: FilePath

  package init(directory: FilePath) {
    path = directory.appending("console.log")
    previous = directory.appending("console.log.1")
  }

  package func append(_ bytes: [UInt8]) throws(SystemError) {
    let file = try OwnedDescriptor.open(path.string, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, mode: 0o600)
    var offset = 0
    while offset < bytes.count {
      offset += try SystemError.check("write", path.string) {
        bytes.withUnsafeBytes { write(file.rawValue, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
      }
    }
    var status = stat()
    if fstat(file.rawValue, &status) == 0, status.st_size > Self.maximumBytes { rename(path.string, previous.string) }
  }

  /// The last `count` bytes as text.
  package func tail(_ count: Int) -> String {
    let bytes = ((try? SmallFile.read(previous.string)) ?? []) + ((try? SmallFile.read(path.string)) ?? [])
    return String(decoding: bytes.suffix(count), as: UTF8.self)
  }
}
