import ControlPlane
import Foundation
import LinuxSystem
import Model
import SystemPackage

/// `credentials.json` in the data directory (0600): what the first run made, where the CLI finds it (AUTH-7).
struct CredentialsFile {
  let path: FilePath

  init(directory: FilePath) {
    path = directory.appending("credentials.json")
  }

  /// Writes new credentials; without new ones only brings the URL up to date.
  func store(_ credentials: Credentials?, url: String) throws {
    if let credentials { return try write(credentials) }
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
