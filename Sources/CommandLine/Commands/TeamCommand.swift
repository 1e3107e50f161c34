import APIClient
import ArgumentParser

struct TeamCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "team", abstract: "Manage your teams and their members.",
    subcommands: [
      List.self, Use.self, Create.self, Rename.self, Delete.self, Members.self, Add.self, Role.self, Remove.self,
      Leave.self,
    ])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List your teams.", aliases: ["list"])

    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let teams = try await session.withClient { try await $0.listTeams() }
      try await output.print(teams) {
        Table(
          header: ["ID", "NAME", "ROLE", "AGE"],
          rows: teams.map { [$0.id, $0.name, $0.role, Formatting.age(since: $0.createdAt)] }
        ).rendered
      }
    }
  }

  struct Use: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "use", abstract: "Switch the session to another of your teams.")

    @Argument(help: "Id of the team.")
    var team: String
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let stored = try await session.withClient { StoredSession(try await $0.switchTeam(to: team), at: $0.endpoint) }
      try SessionOptions.store(stored)
      try await CommandContext.current.console.print(stored.teamID)
    }
  }

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "create", abstract: "Create a team that you own.")

    @Argument(help: "Name of the team.")
    var name: String
    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let team = try await session.withClient { try await $0.createTeam(name: name) }
      try await output.print(team) { team.id }
    }
  }

  struct Rename: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "rename", abstract: "Rename a team.")

    @Argument(help: "Id of the team.")
    var team: String
    @Argument(help: "New name of the team.")
    var name: String
    @OptionGroup var session: SessionOptions

    func run() async throws {
      _ = try await session.withClient { try await $0.renameTeam(team, to: name) }
    }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "rm", abstract: "Delete a team that you own, and destroy its sandboxes.", aliases: ["delete"])

    @Argument(help: "Id of the team.")
    var team: String
    @OptionGroup var session: SessionOptions

    func run() async throws {
      try await session.withClient { try await $0.deleteTeam(team) }
    }
  }
}
