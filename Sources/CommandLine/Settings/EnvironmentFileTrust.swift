import APIClient
import Glibc
import LinuxSystem

/// Whether a `.env` may be believed: root reads none that another user could have written, as ssh(1) does with its keys.
///
/// Trusted users are root and, under sudo(8), the user who called it. Other users than root read what lies in their
/// working directory.
package struct EnvironmentFileTrust: Sendable {
  private static let writableByOthers: UInt32 = 0o022
  private static let sticky: UInt32 = 0o1000

  private let isRoot: Bool
  private let trusted: Set<UInt32>

  package init(userID: UInt32 = geteuid(), sudoUserID: String? = getenv("SUDO_UID").map { String(cString: $0) }) {
    isRoot = userID == 0
    trusted = Set([0] + [sudoUserID.flatMap { UInt32($0) }].compactMap { $0 })
  }

  /// - Throws: `UntrustedEnvironmentFile` for a `.env` in `directory` that other users could have written.
  func check(directory: String) throws(UntrustedEnvironmentFile) {
    guard isRoot else { return }
    let path = directory == "/" ? "/.env" : "\(directory)/.env"
    guard let file = try? FileStatus.of(path, followingLinks: true),
      let place = try? FileStatus.of(directory, followingLinks: true)
    else { return }
    guard trusted.contains(file.ownerUID) else {
      throw UntrustedEnvironmentFile(path, "it belongs to user \(file.ownerUID)", remedy: "chown root \(path)")
    }
    guard file.mode & Self.writableByOthers == 0 else {
      throw UntrustedEnvironmentFile(path, "other users can write it", remedy: "chmod go-w \(path)")
    }
    guard trusted.contains(place.ownerUID) else {
      throw UntrustedEnvironmentFile(
        path, "its directory belongs to user \(place.ownerUID)", remedy: "start martlet in a directory of root's")
    }
    // In a directory with the sticky bit only owners replace files.
    guard place.mode & Self.writableByOthers == 0 || place.mode & Self.sticky != 0 else {
      throw UntrustedEnvironmentFile(
        path, "other users can write its directory", remedy: "chmod go-w \(directory)")
    }
  }
}

/// A `.env` that root does not read.
struct UntrustedEnvironmentFile: Error {
  let message: String

  init(_ path: String, _ reason: String, remedy: String) {
    message =
      "\(path) is not read by root, because \(reason); to use it: \(remedy); otherwise remove it or start martlet elsewhere"
  }
}
