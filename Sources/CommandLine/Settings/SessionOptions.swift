import APIClient
import ArgumentParser
import Foundation
import LinuxSystem
import SystemPackage

/// Options of every command that acts for a user.
struct SessionOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Address of the server (MARTLET_URL).", valueName: "url"))
  var url: String?

  /// Runs `body` with the stored session, or as the administrator in the credentials file of `martlet up`.
  func withClient<Result: Sendable>(_ body: (APIClient) async throws -> Result) async throws -> Result {
    switch try Self.discovery().find(url: url) {
    case .session(let session):
      return try await APIClient.withClient(session, body)
    case .password(let endpoint, let email, let password):
      let session = try await APIClient.withClient(endpoint) { try await $0.logIn(email: email, password: password) }
      return try await APIClient.withClient(StoredSession(session, at: endpoint), body)
    }
  }

  static func discovery() throws -> SessionDiscovery {
    SessionDiscovery(environment: try CommandContext.current.clientSettings().merged)
  }

  /// Stores the session in a file that only its owner can read.
  static func store(_ session: StoredSession) throws {
    guard let path = try discovery().sessionPath else {
      throw APIError(.inputOutput, "the session cannot be stored because HOME is not set")
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      try Directories.create(FilePath(path).removingLastComponent(), mode: 0o700)
      try SmallFile.replace(
        FilePath(path), with: [UInt8](try encoder.encode(session)) + [UInt8(ascii: "\n")], mode: 0o600)
    } catch let error as SystemError {
      throw APIError(.inputOutput, "the session cannot be stored: \(error)")
    }
  }
}
