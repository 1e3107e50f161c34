import APIClient
import ArgumentParser

struct QuarantineCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quarantine",
    abstract: "What hosts hold and the database does not know, for administrators of the platform.",
    discussion: """
      A host sets aside what its database does not know, for example after an older backup was restored: sandboxes are \
      paused, nothing is destroyed. It stays for 30 days (MARTLET_QUARANTINE_DAYS) unless it is adopted.
      """,
    subcommands: [List.self, Adopt.self, Remove.self])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "ls", abstract: "List what is in quarantine.", aliases: ["list"])

    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let items = try await session.withClient { try await $0.listQuarantine() }
      try await output.print(items) {
        Table(
          header: ["ID", "TYPE", "NAME", "TEAM", "STATUS", "SIZE", "AGE", "SINCE"],
          rows: items.map {
            [
              $0.id, $0.type, $0.name ?? $0.template ?? "-", $0.teamName ?? "\($0.teamID) (unknown)",
              $0.status ?? "-", $0.sizeBytes.map { Formatting.bytes($0) } ?? "-",
              Formatting.age(since: $0.createdAt), Formatting.age(since: $0.quarantinedAt),
            ]
          }
        ).rendered
      }
    }
  }

  struct Adopt: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "adopt", abstract: "Give sandboxes or snapshots in quarantine back to their team.",
      discussion: "A sandbox keeps its id and is paused; resume it as usual.")

    @Argument(help: "Ids, as `martlet quarantine ls` shows them.")
    var ids: [String]
    @Option(help: ArgumentHelp("Whose they are now, when the team they were made for does not exist.", valueName: "id"))
    var team: String?
    @Option(help: ArgumentHelp("Another name for a snapshot whose own is taken.", valueName: "name"))
    var name: String?
    @OptionGroup var session: SessionOptions

    func validate() throws {
      guard name == nil || ids.count == 1 else { throw ValidationError("--name is for one snapshot") }
    }

    func run() async throws {
      try await session.withClient { client in
        for id in ids {
          let adopted = try await client.adoptQuarantined(id, team: team, name: name)
          try await CommandContext.current.console.print(adopted.id ?? adopted.name ?? id)
        }
      }
    }
  }

  struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "rm", abstract: "Destroy sandboxes or snapshots in quarantine, for good.", aliases: ["destroy"])

    @Argument(help: "Ids, as `martlet quarantine ls` shows them.")
    var ids: [String]
    @OptionGroup var session: SessionOptions

    func run() async throws {
      try await session.withClient { client in
        for id in ids {
          try await client.destroyQuarantined(id)
          try await CommandContext.current.console.print(id)
        }
      }
    }
  }
}
