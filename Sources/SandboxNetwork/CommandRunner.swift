package import LinuxSystem
import SystemPackage

/// Runs the commands that make networks. Tests inject faults here.
package protocol CommandRunner: Sendable {
  /// Runs `ip` or `nft` to its end. A non-zero exit status is not an error here.
  func run(_ command: NetworkCommand) async throws(ToolError) -> CommandOutput
  /// Writes kernel parameters (sysctl) in a network namespace; nil is the host's namespace.
  func write(_ parameters: [KernelParameter], namespacePath: String?) async throws(SystemError)
  /// Names of the entries under `SlotAddress.namespaceDirectory`.
  func namespaceNames() throws(SystemError) -> [String]
}

/// One execution of a program in one network namespace.
package struct NetworkCommand: Sendable, Equatable {
  package var step: NetworkStep
  package var tool: String
  package var arguments: [String]
  /// Standard input: a batch of commands.
  package var input: String?
  /// Nil is the host's namespace.
  package var namespacePath: String?
  package var deadline: Duration

  package init(
    _ step: NetworkStep, _ tool: String, _ arguments: [String], input: String? = nil, namespacePath: String? = nil,
    deadline: Duration
  ) {
    self.step = step
    self.tool = tool
    self.arguments = arguments
    self.input = input
    self.namespacePath = namespacePath
    self.deadline = deadline
  }
}

/// Exit status and output of a command.
package struct CommandOutput: Sendable, Equatable {
  package var status: ExitStatus
  package var outputText: String
  package var errorText: String

  package init(status: ExitStatus, outputText: String = "", errorText: String = "") {
    self.status = status
    self.outputText = outputText
    self.errorText = errorText
  }

  init(_ output: ToolOutput) {
    self.init(status: output.status, outputText: output.outputText, errorText: output.errorText)
  }

  var isSuccess: Bool { status == .exited(0) }

  /// Returns itself if the command succeeded.
  func checked(_ command: NetworkCommand) throws(ToolError) -> CommandOutput {
    guard isSuccess else { throw ToolError(command.tool, .failed(status, errorText)) }
    return self
  }
}

/// A parameter below /proc/sys/net, which the kernel keeps per network namespace.
package struct KernelParameter: Sendable, Equatable {
  /// Below /proc/sys/net, such as `ipv4/ip_forward`.
  package var name: String
  package var value: String

  package init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }

  package var path: String { "/proc/sys/net/\(name)" }
}

/// Runs the distribution's `ip` and `nft`.
package struct SystemCommandRunner: CommandRunner {
  /// A namespace to use instead of the host's; nil means the caller's own.
  package let hostNamespacePath: String?

  package init(hostNamespacePath: String? = nil) {
    self.hostNamespacePath = hostNamespacePath
  }

  package func run(_ command: NetworkCommand) async throws(ToolError) -> CommandOutput {
    guard let path = command.namespacePath ?? hostNamespacePath else {
      return CommandOutput(
        try await Tool.run(command.tool, command.arguments, input: command.input, deadline: command.deadline))
    }
    guard let tool = Tool.find(command.tool) else { throw ToolError(command.tool, .notInstalled) }
    // nsenter only calls setns(2); `ip -n` and `ip netns exec` also make a mount namespace and mount sysfs, which takes
    // longer.
    return CommandOutput(
      try await Tool.run(
        "nsenter", ["--net=\(path)", "--", tool] + command.arguments, input: command.input, deadline: command.deadline))
  }

  package func write(_ parameters: [KernelParameter], namespacePath: String?) async throws(SystemError) {
    let write: @Sendable () throws(SystemError) -> Void = { () throws(SystemError) in
      for parameter in parameters { try SmallFile.write(parameter.value, to: parameter.path) }
    }
    guard let path = namespacePath ?? hostNamespacePath else { return try await BlockingPool.shared.run(write) }
    try await NetworkNamespace.run(in: path, write)
  }

  package func namespaceNames() throws(SystemError) -> [String] {
    try Directories.names(in: FilePath(SlotAddress.namespaceDirectory))
  }
}
