import ControlPlane
import Foundation
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// The file `credentials.json` in the data directory (mode 0600). The first start stores the administrator's
/// credentials in it; the CLI reads it.
struct StoredCredentials {
  let path: FilePath

  init(directory: FilePath) {
    path = directory.appending("credentials.json")
  }

  var exists: Bool { access(path.string, F_OK) == 0 }

  /// - Parameter credentials: nil removes the file.
  func keep(_ credentials: Credentials?) throws {
    if let credentials { return try write(credentials) }
    unlink(path.string)
  }

  /// Updates the URL in existing credentials.
  func update(url: String) throws {
    guard let bytes = try? SmallFile.read(path.string),
      var existing = try? JSONDecoder().decode(Credentials.self, from: Data(bytes)), existing.url != url
    else { return }
    existing.url = url
    try write(existing)
  }

  private func write(_ credentials: Credentials) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try SmallFile.replace(path, with: [UInt8](try encoder.encode(credentials)) + [UInt8(ascii: "\n")], mode: 0o600)
  }
}
