import APIClient
import ArgumentParser

extension TeamCommand {
  struct Members: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "members", abstract: "List the members of a team.")

    @Argument(help: "Id of the team.")
    var team: String
    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let members = try await session.withClient { try await $0.listMembers(of: team) }
      try await output.print(members) {
        Table(header: ["ID", "EMAIL", "NAME", "ROLE"], rows: members.map { [$0.userID, $0.email, $0.name, $0.role] })
          .rendered
      }
    }
  }

  struct Add: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "add", abstract: "Add a user with an account to a team.")

    @Argument(help: "Id of the team.")
    var team: String
    @Argument(help: "Email address of the account.")
    var email: String
    @Option(help: "Role: admin or member.")
    var role = "member"
    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let member = try await session.withClient { try await $0.addMember(email, role: role, to: team) }
      try await output.print(member) { member.userID }
    }
  }

  struct Role: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "role", abstract: "Change a member's role; `owner` transfers the team.")

    @Argument(help: "Id of the team.")
    var team: String
    @Argument(help: "Id of the member.")
    var user: String
    @Argument(help: "Role: owner, admin or member.")
    var role: String
    @OptionGroup var session: SessionOptions

    func run() async throws {
      _ = try await session.withClient { try await $0.setRole(role, of: user, in: team) }
    }
  }

  struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "remove", abstract: "Remove a member and the API keys that they created for the team.")

    @Argument(help: "Id of the team.")
    var team: String
    @Argument(help: "Id of the member.")
    var user: String
    @OptionGroup var session: SessionOptions

    func run() async throws {
      try await session.withClient { try await $0.removeMember(user, from: team) }
    }
  }

  struct Leave: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "leave", abstract: "Leave a team.")

    @Argument(help: "Id of the team.")
    var team: String
    @OptionGroup var session: SessionOptions

    func run() async throws {
      try await session.withClient { try await $0.leaveTeam(team) }
    }
  }
}
