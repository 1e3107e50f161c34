import ControlPlane
import Foundation
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// The file `credentials.json` in the data directory (mode 0600). The first start stores the administrator's
/// credentials in it; the CLI reads it.
///
/// An existing file is never replaced: it may hold the only credentials of another database. Those of this one are
/// written beside it then, as `credentials-{installation}.json`.
struct StoredCredentials: Sendable {
  private let standard: FilePath
  private let own: FilePath
  private let installation: InstallationID

  init(directory: FilePath, installation: InstallationID) {
    standard = directory.appending("credentials.json")
    own = directory.appending("credentials-\(installation.uuidString).json")
    self.installation = installation
  }

  /// The file with this installation's credentials; nil when there is none. A file of an earlier version does not say
  /// for which it is.
  var existing: FilePath? {
    if load(own) != nil { return own }
    guard let found = load(standard) else { return nil }
    return found.installation == nil || found.installation == installation.wire ? standard : nil
  }

  /// What a first run on this very database wrote.
  var ofThisInstallation: Credentials? {
    [own, standard].lazy.compactMap(load).first { $0.installation == installation.wire }
  }

  /// - Parameter credentials: nil removes what this first run wrote: they are for nobody.
  func keep(_ credentials: Credentials?) throws {
    if let credentials { return try write(credentials, to: access(standard.string, F_OK) == 0 ? own : standard) }
    for path in [own, standard] where load(path)?.installation == installation.wire { unlink(path.string) }
  }

  /// Updates the URL in existing credentials.
  func update(url: String) throws {
    guard let path = existing, var found = load(path), found.url != url else { return }
    found.url = url
    try write(found, to: path)
  }

  private func load(_ path: FilePath) -> Credentials? {
    guard let bytes = try? SmallFile.read(path.string) else { return nil }
    return try? JSONDecoder().decode(Credentials.self, from: Data(bytes))
  }

  private func write(_ credentials: Credentials, to path: FilePath) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try SmallFile.replace(path, with: [UInt8](try encoder.encode(credentials)) + [UInt8(ascii: "\n")], mode: 0o600)
  }
}
