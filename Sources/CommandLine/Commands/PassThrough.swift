import APIClient
import ArgumentParser
import Glibc
import Model

/// Runs a command in a sandbox for `exec`, `run` and `shell`, with or without a terminal.
struct PassThrough: Sendable {
  let client: APIClient
  let context: CommandContext
  let signals: SignalWatcher

  /// Watches the process's signals while `body` runs.
  static func with<Result: Sendable>(
    _ client: APIClient, context: CommandContext, _ body: (PassThrough) async throws -> Result
  ) async throws -> Result {
    let signals = try SignalWatcher(InterruptPolicy.signals + [SIGWINCH])
    defer { signals.cancel() }
    return try await body(PassThrough(client: client, context: context, signals: signals))
  }

  func run(_ start: ExecStart, in sandbox: SandboxID, usesTerminal: Bool) async throws -> Int32 {
    let input = try InputReader(context.input)
    do {
      let code = try await run(start, in: sandbox, usesTerminal: usesTerminal, input: input)
      await input.close()
      return code
    } catch {
      await input.close()
      throw error
    }
  }

  private func run(
    _ start: ExecStart, in sandbox: SandboxID, usesTerminal: Bool, input: InputReader
  ) async throws -> Int32 {
    var execution = Execution(
      client: client, sandbox: sandbox, console: context.console, input: input, signals: signals)
    guard usesTerminal else { return try await execution.run(start) }
    let terminal = Terminal(context.input)
    execution.terminal = terminal
    var start = start
    start.terminal = terminal?.size ?? Self.fallbackSize
    if start.environment["TERM"] == nil { start.environment["TERM"] = context.environment["TERM"] ?? "xterm" }
    let (ready, prepared) = (execution, start)
    guard let terminal else { return try await ready.run(prepared) }
    return try await terminal.withRawMode { try await ready.run(prepared) }
  }

  private static let fallbackSize = ExecStart.Terminal(cols: 80, rows: 24)
}
