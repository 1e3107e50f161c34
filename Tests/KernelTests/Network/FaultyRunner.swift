import LinuxSystem
import SandboxNetwork
import SystemPackage

/// Runs on the real kernel but fails at one step: before it, after half of a batch, or after all of it.
struct FaultyRunner: CommandRunner {
  enum Moment: Sendable {
    case before
    case halfWay
    case after
  }

  let system: SystemCommandRunner
  let step: NetworkStep
  let moment: Moment

  init(_ system: SystemCommandRunner, step: NetworkStep, moment: Moment) {
    self.system = system
    self.step = step
    self.moment = moment
  }

  func run(_ command: NetworkCommand) async throws(ToolError) -> CommandOutput {
    guard command.step == step else { return try await system.run(command) }
    switch moment {
    case .before:
      throw ToolError(command.tool, .deadlineExceeded)
    case .halfWay:
      // An invalid command replaces the second half.
      var command = command
      let lines = (command.input ?? "").split(separator: "\n")
      command.input = lines.prefix(lines.count / 2).joined(separator: "\n") + "\nno such command\n"
      return try await system.run(command)
    case .after:
      _ = try await system.run(command)
      throw ToolError(command.tool, .deadlineExceeded)
    }
  }

  func write(_ parameters: [KernelParameter], namespacePath: String?) async throws(SystemError) {
    guard step == .configureKernel, namespacePath != nil else {
      return try await system.write(parameters, namespacePath: namespacePath)
    }
    if moment != .before { try await system.write(parameters, namespacePath: namespacePath) }
    throw SystemError("write", .permissionDenied)
  }

  func namespaceNames() throws(SystemError) -> [String] {
    try system.namespaceNames()
  }
}
