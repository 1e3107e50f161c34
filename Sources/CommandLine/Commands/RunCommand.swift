import APIClient
import ArgumentParser

struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Create a sandbox, run a command in it, and destroy it.",
    discussion: """
      Standard streams, signals and the exit code pass through. The sandbox is destroyed in every case: also if the
      command fails, this program is interrupted, or the connection breaks.
      """)

  @OptionGroup(title: "Sandbox") var shape: ShapeOptions
  @OptionGroup(title: "Command") var process: ProcessOptions
  @Flag(name: .shortAndLong, help: "Run the command in a terminal.")
  var tty = false
  @OptionGroup var connection: ConnectionOptions
  @Argument(parsing: .postTerminator, help: "The command and its arguments, after `--`.")
  var command: [String] = []

  func validate() throws {
    guard !command.isEmpty else {
      throw ValidationError("put the command after `--`, such as: martlet run -- echo hello")
    }
  }

  func run() async throws {
    let context = CommandContext.current
    let start = ExecStart(
      command: command[0], arguments: Array(command.dropFirst()), environment: try process.environment(of: context),
      workingDirectory: process.workingDirectory, user: process.user, timeoutSeconds: process.timeout)
    let request = shape.request()
    let usesTerminal = tty
    let code = try await connection.withClient { client in
      try await PassThrough.with(client, context: context) { pass in
        let temporary = TemporarySandbox(client: client, console: context.console, signals: pass.signals)
        return try await temporary.run(request) { sandbox in
          try await pass.run(start, in: sandbox.id, usesTerminal: usesTerminal)
        }
      }
    }
    guard code == 0 else { throw ExitCode(code) }
  }
}
