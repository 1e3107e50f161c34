import APIClient
import ArgumentParser
import Model

struct CreateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "create", abstract: "Create a sandbox and print its id.")

  @OptionGroup(title: "Sandbox") var shape: ShapeOptions
  @Option(help: ArgumentHelp("Pause after this many idle seconds; 0 is never.", valueName: "seconds"))
  var timeout: Int?
  @Flag(help: "Resume the paused sandbox when a command or file is asked for.")
  var autoResume = false
  @Option(name: .shortAndLong, help: ArgumentHelp("Variable for every command in the sandbox.", valueName: "key=value"))
  var env: [String] = []
  @Option(help: ArgumentHelp("A note of yours, kept with the sandbox.", valueName: "key=value"))
  var metadata: [String] = []
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let context = CommandContext.current
    let envs = try KeyValue.map(env, option: "--env") { context.environment[$0] }
    let notes = try KeyValue.map(metadata, option: "--metadata")
    let request = shape.request(
      timeoutSeconds: timeout, metadata: notes.isEmpty ? nil : notes, envs: envs.isEmpty ? nil : envs,
      autoResume: autoResume ? true : nil)
    try await connection.withClient { client in
      let sandbox = try await client.createSandbox(request)
      try await output.print(sandbox) { sandbox.id.wire }
    }
  }
}
