import Glibc
import LinuxSystem
import Model
package import SystemPackage

/// Claims a data directory for one server: a lock on the file `lock` in it.
///
/// The lock belongs to the file and not to a path, so that a second server is refused however it reaches the directory:
/// through a symbolic link, a bind mount or another name. The kernel releases it when the process ends. The file holds
/// the process id of its last holder.
///
/// Source: flock(2).
package final class DataDirectoryLock: Sendable {
  package static let fileName = "lock"

  private let descriptor: OwnedDescriptor

  private init(_ descriptor: OwnedDescriptor) {
    self.descriptor = descriptor
  }

  /// - Throws: `host_unavailable` with the holder's process id when another process has the directory.
  package static func take(_ directory: FilePath) throws -> DataDirectoryLock {
    let path = directory.appending(fileName).string
    let descriptor = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
    guard flock(descriptor.rawValue, LOCK_EX | LOCK_NB) == 0 else {
      let error = SystemError.current("flock", subject: path)
      guard error.errno == .wouldBlock else { throw error }
      throw held(directory, by: holder(path))
    }
    try SystemError.check("ftruncate", path) { ftruncate(descriptor.rawValue, 0) }
    try SmallFile.write("\(getpid())", to: path)
    return DataDirectoryLock(descriptor)
  }

  /// Nil when the file does not say: the holder has not written it yet.
  private static func holder(_ path: String) -> Int32? {
    (try? SmallFile.readText(path)).flatMap { Int32($0) }
  }

  private static func held(_ directory: FilePath, by pid: Int32?) -> MartletError {
    let holder = pid.map { "process \($0)" } ?? "another process"
    return MartletError(
      .hostUnavailable,
      "the data directory \(directory) is in use by another Martlet server (\(holder)), perhaps under another path; "
        + "stop that server, or choose another directory with --data-dir")
  }
}
