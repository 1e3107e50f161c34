import APIClient
import ArgumentParser
import Foundation
import LinuxSystem
import SystemPackage

/// Options of every command that acts as a person.
struct SessionOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Address of the server (MARTLET_URL).", valueName: "url"))
  var url: String?

  /// Runs `body` as whoever is logged in, or as the administrator of the first run where nobody is.
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
    SessionDiscovery(environment: try CommandContext.current.settings().merged)
  }

  /// Remembers who is logged in, readable by its owner only.
  static func store(_ session: StoredSession) throws {
    guard let path = try discovery().sessionPath else {
      throw APIError(.inputOutput, "there is no HOME to keep the session in")
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      try LinuxSystem.Directories.create(FilePath(path).removingLastComponent(), mode: 0o700)
      try SmallFile.replace(
        FilePath(path), with: [UInt8](try encoder.encode(session)) + [UInt8(ascii: "\n")], mode: 0o600)
    } catch let error as SystemError {
      throw APIError(.inputOutput, "the session cannot be kept: \(error)")
    }
  }
}
