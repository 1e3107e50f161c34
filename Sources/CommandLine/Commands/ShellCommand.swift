import APIClient
import ArgumentParser

struct ShellCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shell", abstract: "Open a shell in a sandbox, or in a new one that is destroyed afterwards.")

  /// Starts bash if the image has it, else sh.
  private static let script = "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi"

  @Argument(help: "Id of the sandbox, or a unique prefix of it; without one a new sandbox is created.")
  var sandbox: String?
  @OptionGroup(title: "New sandbox") var shape: ShapeOptions
  @Option(name: .shortAndLong, help: "User in the sandbox that runs the shell.")
  var user: String?
  @Option(name: .customLong("cwd"), help: ArgumentHelp("Working directory of the shell.", valueName: "path"))
  var workingDirectory: String?
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard sandbox == nil || shape.request() == SandboxRequest() else {
      throw ValidationError("--template, --vcpus, --memory and --disk are for a new sandbox; leave them out with an id")
    }
  }

  func run() async throws {
    let context = CommandContext.current
    let start = ExecStart(
      command: "/bin/sh", arguments: ["-c", Self.script], workingDirectory: workingDirectory, user: user)
    let request = shape.request()
    let code = try await connection.withClient { client in
      try await PassThrough.with(client, context: context) { pass in
        if let sandbox {
          return try await pass.run(start, in: try await client.resolveSandbox(sandbox), usesTerminal: true)
        }
        let temporary = TemporarySandbox(client: client, console: context.console, signals: pass.signals)
        return try await temporary.run(request) { try await pass.run(start, in: $0.id, usesTerminal: true) }
      }
    }
    guard code == 0 else { throw ExitCode(code) }
  }
}
