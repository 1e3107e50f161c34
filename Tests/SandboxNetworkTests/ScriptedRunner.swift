import Concurrency
import LinuxSystem
import SandboxNetwork
import SystemPackage

/// Simulates the kernel: keeps the namespaces and links that the commands would make, and fails at a chosen step.
final class ScriptedRunner: CommandRunner {
  enum Fault: Sendable, Equatable {
    /// The step's command fails; if it is a batch, after this many lines.
    case fail(NetworkStep, afterLines: Int = 0)
    /// The command is killed at its deadline after this many lines.
    case hang(NetworkStep, afterLines: Int = 0)

    var step: NetworkStep {
      switch self {
      case .fail(let step, _), .hang(let step, _): step
      }
    }

    var lines: Int {
      switch self {
      case .fail(_, let lines), .hang(_, let lines): lines
      }
    }
  }

  struct State {
    var namespaces: Set<String> = []
    var links: Set<String> = []
    var commands: [NetworkCommand] = []
    var parameters: [String: [KernelParameter]] = [:]
    var faults: [Fault] = []
    var outputs: [String: String] = [:]
  }

  let state = Mutex(State())
  /// Awaited before each command, so that tests can hold one operation while they start another.
  let gate: @Sendable (NetworkCommand) async -> Void

  init(faults: [Fault] = [], gate: @escaping @Sendable (NetworkCommand) async -> Void = { _ in }) {
    self.gate = gate
    state.withLock { $0.faults = faults }
  }

  var isEmpty: Bool { state.withLock { $0.namespaces.isEmpty && $0.links.isEmpty } }
  var commands: [NetworkCommand] { state.withLock { $0.commands } }

  func input(of step: NetworkStep) -> String? {
    commands.first { $0.step == step }?.input
  }

  func run(_ command: NetworkCommand) async throws(ToolError) -> CommandOutput {
    await gate(command)
    let outcome: Result<CommandOutput, ToolError> = state.withLock { state in
      state.commands.append(command)
      let fault = state.faults.first { $0.step == command.step }
      let lines = Self.lines(of: command)
      for (index, line) in lines.enumerated() {
        if let fault, index >= fault.lines { return Self.failure(command, fault, line: index + 1) }
        guard Self.apply(line, &state) || command.arguments.contains("-force") else {
          return Self.failure(command, .fail(command.step), line: index + 1)
        }
      }
      if let fault { return Self.failure(command, fault, line: lines.count + 1) }
      return .success(Self.output(status: 0, text: Self.response(command, state)))
    }
    return try outcome.get()
  }

  func write(_ parameters: [KernelParameter], namespacePath: String?) async throws(SystemError) {
    let step = namespacePath == nil ? NetworkStep.enableForwarding : .configureKernel
    let fails = state.withLock { state in
      state.parameters[namespacePath ?? ""] = parameters
      return state.faults.contains { $0.step == step }
    }
    if fails { throw SystemError("write", .permissionDenied, subject: "/proc/sys/net") }
  }

  func namespaceNames() throws(SystemError) -> [String] {
    state.withLock { $0.namespaces.sorted() }
  }

  private static func lines(of command: NetworkCommand) -> [String] {
    guard command.tool == "ip" else { return [] }
    guard command.arguments.contains("-batch") else { return [command.arguments.joined(separator: " ")] }
    return (command.input ?? "").split(separator: "\n").map(String.init)
  }

  /// - Returns: false when the real command would fail.
  private static func apply(_ line: String, _ state: inout State) -> Bool {
    let words = line.split(separator: " ").map(String.init)
    switch words.prefix(2).joined(separator: " ") {
    case "netns add": return state.namespaces.insert(words[2]).inserted
    case "netns del": return state.namespaces.remove(words[2]) != nil
    case "link add": return state.links.insert(words[2]).inserted
    case "link del": return state.links.remove(words[2]) != nil
    default: return true
    }
  }

  private static func response(_ command: NetworkCommand, _ state: State) -> String {
    if let text = state.outputs[command.arguments.joined(separator: " ")] { return text }
    guard command.step == .listLinks else { return "" }
    return state.links.sorted().map { "\($0)@if2        UP             4a:dd:37:67:a4:52 <BROADCAST,MULTICAST,UP>\n" }
      .joined()
  }

  private static func failure(_ command: NetworkCommand, _ fault: Fault, line: Int) -> Result<CommandOutput, ToolError>
  {
    if case .hang = fault { return .failure(ToolError(command.tool, .deadlineExceeded)) }
    return .success(output(status: 1, text: "", errorText: "Error: refused by the test.\nCommand failed -:\(line)\n"))
  }

  private static func output(status: Int32, text: String, errorText: String = "") -> CommandOutput {
    CommandOutput(status: .exited(status), outputText: text, errorText: errorText)
  }
}
