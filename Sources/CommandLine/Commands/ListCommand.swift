import APIClient
import ArgumentParser
import Model

struct ListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "ls", abstract: "List sandboxes.", aliases: ["list"])

  @Option(help: "Only sandboxes with this status; without it all except `stopped` and `error`.")
  var status: String?
  @Flag(name: .shortAndLong, help: "Print ids only.")
  var quiet = false
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await connection.withClient { client in
      let sandboxes = try await client.listSandboxes(status: status)
      try await output.print(sandboxes) {
        quiet ? sandboxes.map(\.id.wire).joined(separator: "\n") : Self.table(sandboxes).rendered
      }
    }
  }

  static func table(_ sandboxes: [SandboxResource]) -> Table {
    Table(
      header: ["ID", "STATUS", "TEMPLATE", "VCPUS", "MEMORY", "DISK", "AGE"],
      rows: sandboxes.map { sandbox in
        [
          sandbox.id.wire, sandbox.status, sandbox.template ?? "-", sandbox.vcpus.map(String.init) ?? "-",
          sandbox.memoryMiB.map { "\($0) MiB" } ?? "-", sandbox.diskSizeMiB.map { "\($0) MiB" } ?? "-",
          Formatting.age(since: sandbox.createdAt),
        ]
      })
  }
}
