import APIClient
import ArgumentParser
import Glibc
import Model

/// Parses and performs one command line.
///
/// - Parameters:
///   - arguments: without the program's name.
///   - local: what needs this machine and not a server; provided by the executable.
///   - context: files, environment and terminal; tests give their own.
/// - Returns: the exit code of the process: that of the command that ran in a sandbox, or of what went wrong
///   (sysexits(3)).
package func runCommandLine(
  _ arguments: [String], local: LocalServices, context: CommandContext = CommandContext()
) async -> Int32 {
  // A closed pipe is an error of the write, not the end of a process that still has a sandbox to destroy.
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

/// Says what went wrong on standard error and gives the exit code for it.
private func report(_ error: any Error, context: CommandContext) async -> Int32 {
  switch error {
  case let error as ExitCode: return error.rawValue
  case let error as APIError:
    await context.console.complain(error.message)
    return error.exitCode
  case let error as MartletError:
    await context.console.complain(error.message)
    return error.code.meaning.exitCode
  case is OutputClosed:
    // As if SIGPIPE had ended us: the reader has seen enough.
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

/// Help and version texts, and errors in the arguments; also the last resort for errors that no room has given a
/// meaning.
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
      commandName: "martlet", abstract: "Sandboxes in microVMs, on your own machines.",
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
          name: "People:", subcommands: [LoginCommand.self, TeamCommand.self, KeyCommand.self, UserCommand.self]),
        CommandGroup(name: "This machine:", subcommands: [UpCommand.self, ImagesCommand.self, DoctorCommand.self]),
      ])
  }
}
