import APIClient
import ArgumentParser

struct LoginCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "login", abstract: "Log in as a user, for the commands about teams, keys and users.",
    discussion:
      "Asks for the password on the terminal, or reads it from standard input. The session lasts six hours; commands "
      + "about sandboxes need only an API key.")

  @Option(help: "Email address of the account.")
  var email: String
  @OptionGroup var output: OutputOptions
  @OptionGroup var session: SessionOptions

  private struct Report: Encodable {
    var url: String
    var email: String
    var userID: String
    var teamID: String
    var expiresAt: String

    enum CodingKeys: String, CodingKey {
      case url, email
      case userID = "user_id"
      case teamID = "team_id"
      case expiresAt = "expires_at"
    }
  }

  func run() async throws {
    let endpoint = try SessionOptions.discovery().endpoint(url: session.url)
    let password = try await SecretInput.read("Password for \(email) at \(endpoint): ")
    let newSession = try await APIClient.withClient(endpoint) { try await $0.logIn(email: email, password: password) }
    let stored = StoredSession(newSession, at: endpoint)
    try SessionOptions.store(stored)
    let report = Report(
      url: stored.url, email: stored.email, userID: stored.userID, teamID: stored.teamID, expiresAt: stored.expiresAt)
    try await output.print(report) {
      "logged in to \(stored.url) as \(stored.email), for \(stored.teamID), until \(stored.expiresAt)"
    }
  }
}
