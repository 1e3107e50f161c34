import APIClient
import ArgumentParser

struct ProcessesCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ps", abstract: "List the processes in a sandbox.")

  @Argument(help: "Id of the sandbox, or a unique prefix of it.")
  var sandbox: String
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await connection.withClient { client in
      let processes = try await client.listProcesses(in: try await client.resolveSandbox(sandbox))
      try await output.print(processes) { Self.table(processes).rendered }
    }
  }

  static func table(_ processes: [ProcessResource]) -> Table {
    Table(
      header: ["PID", "TAG", "COMMAND"],
      rows: processes.map { ["\($0.pid)", $0.tag ?? "-", ([$0.cmd] + ($0.args ?? [])).joined(separator: " ")] })
  }
}
