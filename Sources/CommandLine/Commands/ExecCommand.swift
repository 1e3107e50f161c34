import APIClient
import ArgumentParser

struct ExecCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec", abstract: "Run a command in an existing sandbox.",
    discussion:
      "Standard streams, signals and the exit code pass through. The command is killed when this program exits, unless "
      + "--detach is given.")

  @Argument(help: "Id of the sandbox, or a unique prefix of it.")
  var sandbox: String
  @OptionGroup(title: "Command") var process: ProcessOptions
  @Flag(name: .shortAndLong, help: "Run the command in a terminal.")
  var tty = false
  @Flag(name: .shortAndLong, help: "Start the command in the background and print its process id.")
  var detach = false
  @Option(help: "Name of the background process (with --detach).")
  var tag: String?
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @Argument(parsing: .postTerminator, help: "The command and its arguments, after `--`.")
  var command: [String] = []

  func validate() throws {
    guard !command.isEmpty else {
      throw ValidationError("put the command after `--`, such as: martlet exec ID -- ls -l")
    }
    guard !(detach && tty) else {
      throw ValidationError("--detach and --tty exclude each other; a detached command has no terminal")
    }
    guard !(detach && process.timeout > 0) else {
      throw ValidationError("--timeout does not apply to a detached command")
    }
    guard tag == nil || detach else { throw ValidationError("--tag needs --detach") }
    guard detach || !output.json else {
      throw ValidationError("--json needs --detach; otherwise the output is the command's")
    }
  }

  func run() async throws {
    let context = CommandContext.current
    let start = ExecStart(
      command: command[0], arguments: Array(command.dropFirst()), environment: try process.environment(of: context),
      workingDirectory: process.workingDirectory, user: process.user, tag: tag, timeoutSeconds: process.timeout)
    let code = try await connection.withClient { client in
      let id = try await client.resolveSandbox(sandbox)
      guard !detach else {
        let started = try await client.startBackground(start, in: id)
        try await output.print(started) { "\(started.pid)" }
        return Int32(0)
      }
      return try await PassThrough.with(client, context: context) { try await $0.run(start, in: id, usesTerminal: tty) }
    }
    guard code == 0 else { throw ExitCode(code) }
  }
}
