import APIClient
import ArgumentParser

struct LoginCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "login", abstract: "Log in as a person, for the commands that are about people.",
    discussion:
      "The password is asked for, or read from standard input. The session lasts six hours; sandboxes need only a key.")

  @Option(help: "E-mail of the account.")
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
    let answer = try await APIClient.withClient(endpoint) { try await $0.logIn(email: email, password: password) }
    let stored = StoredSession(answer, at: endpoint)
    try SessionOptions.store(stored)
    let report = Report(
      url: stored.url, email: stored.email, userID: stored.userID, teamID: stored.teamID, expiresAt: stored.expiresAt)
    try await output.print(report) {
      "logged in to \(stored.url) as \(stored.email), for \(stored.teamID), until \(stored.expiresAt)"
    }
  }
}
