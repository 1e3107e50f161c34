import APIClient
import ArgumentParser
import Glibc
import Model

/// Parses and runs one command line.
///
/// - Parameters:
///   - arguments: without the program's name.
///   - local: commands that act on this machine; provided by the executable.
///   - context: environment variables, directory and standard streams; tests pass their own.
/// - Returns: the exit code: that of the command in the sandbox, or one of sysexits(3) for an error.
package func runCommandLine(
  _ arguments: [String], local: LocalServices, context: CommandContext = CommandContext()
) async -> Int32 {
  // A closed pipe must not end the process, which may still have a sandbox to destroy; the write reports EPIPE.
  signal(SIGPIPE, SIG_IGN)
  return await LocalServices.$current.withValue(local) {
    await CommandContext.$current.withValue(context) {
      do {
        try await perform(arguments)
        return 0
      } catch {
        return await report(error, context: context)
      }
    }
  }
}

private func perform(_ arguments: [String]) async throws {
  var command = try Martlet.parseAsRoot(arguments)
  if var command = command as? any AsyncParsableCommand {
    try await command.run()
    return
  }
  try command.run()
}

/// Prints the error on standard error and returns its exit code.
private func report(_ error: any Error, context: CommandContext) async -> Int32 {
  switch error {
  case let error as ExitCode: return error.rawValue
  case let error as APIError:
    await context.console.complain(error.message)
    return error.exitCode
  case let error as UntrustedEnvironmentFile:
    await context.console.complain(error.message)
    return APIError(.invalidInput, error.message).exitCode
  case let error as MartletError:
    await context.console.complain(error.message)
    return error.code.meaning.exitCode
  case is OutputClosed:
    // The exit code of a process that SIGPIPE ended.
    return 128 + SIGPIPE
  case let error as OperatingSystemError:
    await context.console.complain(error.description)
    return APIError.LocalCode.inputOutput.exitCode
  case is CancellationError:
    return 128 + SIGINT
  default:
    return await reportParsing(error, context: context)
  }
}

/// Prints help and version texts, errors in the arguments, and all other errors.
private func reportParsing(_ error: any Error, context: CommandContext) async -> Int32 {
  let code = Martlet.exitCode(for: error)
  let message = Martlet.fullMessage(for: error)
  if code.isSuccess {
    try? await context.console.print(message)
  } else if !message.isEmpty {
    await context.console.printError(message)
  }
  return code == .failure ? ErrorCode.internalError.meaning.exitCode : code.rawValue
}

struct Martlet: AsyncParsableCommand {
  static var configuration: CommandConfiguration {
    CommandConfiguration(
      commandName: "martlet", abstract: "Run sandboxes in microVMs on your own machines.",
      version: "martlet \(LocalServices.current?.version ?? "unknown")",
      groupedSubcommands: [
        CommandGroup(
          name: "Sandboxes:",
          subcommands: [
            RunCommand.self, CreateCommand.self, ListCommand.self, InfoCommand.self, ExecCommand.self,
            ShellCommand.self,
            CopyCommand.self, ProcessesCommand.self, KillCommand.self,
          ]),
        CommandGroup(
          name: "Pause and snapshots:",
          subcommands: [
            PauseCommand.self, ResumeCommand.self, PingCommand.self, TimeoutCommand.self, ForkCommand.self,
            SnapshotCommand.self,
            TemplateCommand.self,
          ]),
        CommandGroup(
          name: "Users, teams and keys:",
          subcommands: [LoginCommand.self, TeamCommand.self, KeyCommand.self, UserCommand.self]),
        CommandGroup(
          name: "This machine:",
          subcommands: [UpCommand.self, ImagesCommand.self, DoctorCommand.self, QuarantineCommand.self]),
      ])
  }
}
