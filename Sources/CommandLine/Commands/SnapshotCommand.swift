import APIClient
import ArgumentParser
import Model

struct SnapshotCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot", abstract: "Create, list and delete named snapshots of sandboxes.",
    discussion: "Create sandboxes from a snapshot with: martlet create --template NAME",
    subcommands: [Create.self, List.self, Remove.self])

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "create",
      abstract: "Save the state of a running or paused sandbox under a name; the sandbox goes on.")

    @OptionGroup var sandbox: SandboxArgument
    @Option(help: "Name of the snapshot; without it the server chooses one.")
    var name: String?
    @Flag(help: "Replace an existing snapshot of that name.")
    var overwrite = false
    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    func validate() throws {
      guard !overwrite || name != nil else { throw ValidationError("--overwrite needs --name") }
    }

    func run() async throws {
      let name = try name.map { try SafeName($0, what: "the name of a snapshot") }
      try await connection.withClient { client in
        let id = try await sandbox.resolved(by: client)
        let snapshot = try await client.createSnapshot(of: id, name: name?.value, overwrites: overwrite)
        try await output.print(snapshot) { Table.printable(snapshot.name) }
      }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List snapshots.", aliases: ["list"])

    @Flag(name: .shortAndLong, help: "Print names only.")
    var quiet = false
    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      try await connection.withClient { client in
        let snapshots = try await client.listTemplates(type: "snapshot")
        try await output.print(snapshots) {
          quiet ? snapshots.map { Table.printable($0.name) }.joined(separator: "\n") : Self.table(snapshots).rendered
        }
      }
    }

    static func table(_ snapshots: [TemplateResource]) -> Table {
      Table(
        header: ["NAME", "OWNER", "VCPUS", "MEMORY", "DISK", "SIZE", "AGE"],
        rows: snapshots.map { snapshot in
          [
            snapshot.name, snapshot.platform == true ? "platform" : "team", snapshot.vcpus.map(String.init) ?? "-",
            snapshot.memoryMiB.map { "\($0) MiB" } ?? "-", snapshot.diskSizeMiB.map { "\($0) MiB" } ?? "-",
            snapshot.sizeBytes.map(Formatting.bytes) ?? "-", Formatting.age(since: snapshot.createdAt),
          ]
        })
    }
  }

  struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "rm", abstract: "Delete snapshots; sandboxes created from them are not affected.",
      aliases: ["delete"])

    private struct Report: Encodable {
      var deleted: [String] = []
      var failed: [Failure] = []

      struct Failure: Encodable {
        var name: String
        var code: String
        var message: String
      }
    }

    @Argument(help: "Names of snapshots.")
    var names: [String]
    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    /// Deletes all snapshots, even if some fail.
    func run() async throws {
      let names = try names.map { try SafeName($0, what: "the name of a snapshot").value }
      var report = Report()
      var firstError: APIError?
      try await connection.withClient { client in
        for name in names {
          do {
            try await client.deleteSnapshot(name)
            report.deleted.append(name)
          } catch let error as APIError {
            firstError = firstError ?? error
            report.failed.append(.init(name: name, code: error.code, message: error.message))
          }
        }
      }
      try await output.print(report) { report.deleted.joined(separator: "\n") }
      if !output.json {
        for failure in report.failed {
          await CommandContext.current.console.complain("\(failure.name): \(failure.message)")
        }
      }
      if let firstError { throw ExitCode(firstError.exitCode) }
    }
  }
}
