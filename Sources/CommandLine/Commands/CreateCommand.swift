import APIClient
import ArgumentParser
import Model

struct CreateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "create", abstract: "Create a sandbox and print its id.")

  @OptionGroup(title: "Sandbox") var shape: ShapeOptions
  @Option(help: ArgumentHelp("Pause the sandbox after this many idle seconds; 0 for never.", valueName: "seconds"))
  var timeout: Int?
  @Flag(help: "Resume the paused sandbox when a request needs it.")
  var autoResume = false
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Environment variable of every command in the sandbox.", valueName: "key=value"))
  var env: [String] = []
  @Option(help: ArgumentHelp("Metadata that is stored with the sandbox.", valueName: "key=value"))
  var metadata: [String] = []
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let context = CommandContext.current
    let envs = try KeyValue.map(env, option: "--env") { context.environment[$0] }
    let pairs = try KeyValue.map(metadata, option: "--metadata")
    let request = shape.request(
      timeoutSeconds: timeout, metadata: pairs.isEmpty ? nil : pairs, envs: envs.isEmpty ? nil : envs,
      autoResume: autoResume ? true : nil)
    try await connection.withClient { client in
      let sandbox = try await client.createSandbox(request)
      try await output.print(sandbox) { sandbox.id.wire }
    }
  }
}
