import ControlPlane
import LinuxSystem
import Model
import SystemPackage

/// Loads the secret that signs session tokens.
///
/// With several control planes the secret must be configured, because all of them need the same one. A single server
/// generates one at its first start and stores it in its data directory (mode 0600).
struct TokenSecretFile {
  static let settingName = "MARTLET_JWT_SECRET"
  private static let fileName = "jwt-secret"

  let directory: FilePath

  /// - Parameters:
  ///   - given: the configured secret, nil if there is none.
  ///   - isShared: whether other control planes may use the same database.
  /// - Throws: `invalid_request` with the remedy for a missing or short secret; the server must not start then.
  func load(given: String?, isShared: Bool) throws -> TokenSecret {
    if let given { return try TokenSecret(given, name: Self.settingName) }
    guard !isShared else {
      throw MartletError(
        .invalidRequest,
        "\(Self.settingName) is not set; with DATABASE_URL every control plane needs the same secret, for example from "
          + "`openssl rand -hex 32`"
      )
    }
    let path = directory.appending(Self.fileName)
    if try FileStatus.of(path.string, followingLinks: true) != nil {
      return try TokenSecret(try text(path), name: path.string)
    }
    let text = TokenSecret.randomText()
    try SmallFile.replace(path, with: Array("\(text)\n".utf8), mode: 0o600)
    return try TokenSecret(text, name: path.string)
  }

  private func text(_ path: FilePath) throws -> String {
    String(try SmallFile.readText(path.string).filter { !$0.isWhitespace })
  }
}
