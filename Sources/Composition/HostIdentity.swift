import Foundation
import LinuxSystem
import Model
import SystemPackage

/// `host.json` in the data directory: the host's id, and the installation that it belongs to.
struct HostIdentity: Codable, Equatable {
  let id: HostID
  /// Nil: the data directory is new, or was made by a version without installations.
  var installation: InstallationID?

  private static let fileName = "host.json"

  /// - Returns: the identity, a new one if there is none; it is not written.
  static func load(from directory: FilePath) throws -> HostIdentity {
    let path = directory.appending(fileName)
    guard try FileStatus.of(path.string, followingLinks: true) != nil else { return HostIdentity(id: HostID()) }
    do {
      return try JSONDecoder().decode(HostIdentity.self, from: Data(try SmallFile.read(path.string)))
    } catch {
      // Another id would make every sandbox of this host one of a host that is gone.
      throw MartletError(
        .hostUnavailable,
        "\(path) cannot be read, and without it the sandboxes of this host belong to no host; restore it from a backup",
        cause: error)
    }
  }

  /// Replaces the file; durable when this returns.
  func write(to directory: FilePath) throws {
    try SmallFile.replace(
      directory.appending(Self.fileName), with: [UInt8](try JSONEncoder().encode(self)), mode: 0o600)
  }
}
