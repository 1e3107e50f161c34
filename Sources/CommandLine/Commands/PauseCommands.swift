import APIClient
import ArgumentParser
import Model

struct PauseCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Save a sandbox's memory, processes and disk, and release its microVM.")

  @OptionGroup var sandbox: SandboxArgument
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await connection.withClient { client in
      let paused = try await client.pauseSandbox(try await sandbox.resolved(by: client))
      try await output.print(paused) { OperationText.line(paused) }
    }
  }
}

struct ResumeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Resume a paused sandbox.")

  @OptionGroup var sandbox: SandboxArgument
  @Flag(help: "Resume from the generation before the latest one, if the latest is damaged.")
  var previous = false
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await connection.withClient { client in
      let resumed = try await client.resumeSandbox(try await sandbox.resolved(by: client), previous: previous)
      try await output.print(resumed) { OperationText.line(resumed) }
    }
  }
}

struct PingCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ping", abstract: "Reset the idle timer of a sandbox.")

  private struct Report: Encodable {
    var id: String
  }

  @OptionGroup var sandbox: SandboxArgument
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await connection.withClient { client in
      let id = try await sandbox.resolved(by: client)
      try await client.pingSandbox(id)
      try await output.print(Report(id: id.wire)) { id.wire }
    }
  }
}

struct TimeoutCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "timeout", abstract: "Set the idle time-out of a sandbox.")

  @OptionGroup var sandbox: SandboxArgument
  @Argument(help: "Idle seconds after which the sandbox is paused; 0 for never.")
  var seconds: Int
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard Limits.timeoutSeconds.contains(seconds) else {
      throw ValidationError("the time-out must be between 0 and \(Limits.timeoutSeconds.upperBound) seconds")
    }
  }

  func run() async throws {
    try await connection.withClient { client in
      let changed = try await client.setTimeout(seconds, of: try await sandbox.resolved(by: client))
      try await output.print(changed) { changed.id.wire }
    }
  }
}

struct ForkCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fork", abstract: "Create copies of a sandbox with its memory and processes, and print their ids.")

  @OptionGroup var sandbox: SandboxArgument
  @Option(help: ArgumentHelp("Number of copies.", valueName: "n"))
  var count = 1
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard Limits.forkCount.contains(count) else {
      throw ValidationError("--count must be between \(Limits.forkCount.lowerBound) and \(Limits.forkCount.upperBound)")
    }
  }

  /// Prints the ids of the copies that run; exits with an error if some failed.
  func run() async throws {
    let copies = try await connection.withClient { client in
      try await client.forkSandbox(try await sandbox.resolved(by: client), count: count)
    }
    try await output.print(copies) { copies.map(\.id.wire).joined(separator: "\n") }
    guard copies.count < count else { return }
    await CommandContext.current.console.complain(
      "\(count - copies.count) of \(count) copies failed; `martlet ls --status error` lists the reasons")
    throw ExitCode(ErrorCode.agentError.meaning.exitCode)
  }
}

/// The argument of a command that acts on one sandbox.
struct SandboxArgument: ParsableArguments {
  @Argument(help: "Id of the sandbox, or a unique prefix of it.")
  var sandbox: String

  func resolved(by client: APIClient) async throws -> SandboxID {
    try await client.resolveSandbox(sandbox)
  }
}

enum OperationText {
  /// The id, the new status and the duration of the operation.
  static func line(_ sandbox: SandboxResource) -> String {
    let total = (sandbox.timings ?? [:]).values.reduce(0, +)
    let took = sandbox.timings == nil ? "" : "  \(Int(total.rounded())) ms"
    return "\(sandbox.id.wire)  \(Table.printable(sandbox.status))\(took)"
  }
}
