import ControlPlane
import Foundation
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// `credentials.json` in the data directory (0600): what the first run made, where the CLI finds it (AUTH-7).
struct CredentialsFile {
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

  /// Brings the URL of existing credentials up to date.
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
