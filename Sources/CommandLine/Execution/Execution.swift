import APIClient
import ArgumentParser
import Glibc
import Model
import NIOCore

/// One command in a sandbox with our standard streams, signals and terminal passed through.
struct Execution: Sendable {
  let client: APIClient
  let sandbox: SandboxID
  let console: Console
  let input: InputReader
  let signals: SignalWatcher
  /// Whose size follows SIGWINCH; nil when the command has no terminal.
  var terminal: Terminal?

  private enum Occurrence: Sendable {
    case exited(ExecExit)
    case inputEnded
    case signal(Int32?)
    case graceOver
  }

  /// - Returns: the exit code of the command, 128 + n when signal n ended it.
  /// - Throws: `APIError` when the command cannot be started or its connection breaks: never a made-up exit code.
  ///   `OutputClosed` when the reader of our output is gone; the command has ended then too.
  func run(_ start: ExecStart) async throws -> Int32 {
    try await client.withExec(start, in: sandbox) { stream in
      try await withThrowingTaskGroup(of: Occurrence.self) { group in
        defer { group.cancelAll() }
        group.addTask { .exited(try await passOutput(of: stream)) }
        group.addTask { await passInput(to: stream) }
        group.addTask { .signal(await signals.next()) }
        return try await supervise(&group, stream)
      }
    }
  }

  private func supervise(_ group: inout ThrowingTaskGroup<Occurrence, any Error>, _ stream: ExecStream) async throws -> Int32 {
    var policy = InterruptPolicy()
    while let occurrence = try await group.next() {
      var action = InterruptPolicy.Action.none
      switch occurrence {
      case .exited(let exit): return Self.exitCode(of: exit)
      case .inputEnded: break
      case .graceOver: action = policy.graceOver()
      case .signal(SIGWINCH?):
        if let size = terminal?.size { try? await stream.resize(cols: size.cols, rows: size.rows) }
      case .signal(let number?): action = policy.handle(number, at: .now)
      case .signal(nil): continue
      }
      if case .signal = occurrence { group.addTask { .signal(await signals.next()) } }
      try await perform(action, stream: stream, group: &group)
    }
    throw CancellationError()
  }

  private func perform(
    _ action: InterruptPolicy.Action, stream: ExecStream, group: inout ThrowingTaskGroup<Occurrence, any Error>
  ) async throws {
    // A connection that no longer takes a signal is reported by the task that reads from it.
    switch action {
    case .none: break
    case .forward(let name, let graceEnds):
      try? await stream.signal(name)
      if graceEnds { group.addTask { await Self.graceOver() } }
    case .kill:
      try? await stream.signal("SIGKILL")
      group.addTask { await Self.graceOver() }
    case .abandon(let signal):
      await console.complain("gave up waiting for the command to end")
      throw ExitCode(128 + signal)
    }
  }

  private static func graceOver() async -> Occurrence {
    // Cancelled: the command has ended and nobody asks any more.
    try? await Task.sleep(for: InterruptPolicy.grace)
    return .graceOver
  }

  private func passOutput(of stream: ExecStream) async throws -> ExecExit {
    for try await event in stream.events {
      switch event {
      case .started: continue
      case .output(.standardError, let bytes): try await console.write(bytes, to: console.error)
      case .output(_, let bytes): try await console.write(bytes, to: console.output)
      case .exited(let exit): return exit
      }
    }
    throw CancellationError()
  }

  /// Ends with the input, with the task, or when the command takes no more; none of these is an error of ours.
  private func passInput(to stream: ExecStream) async -> Occurrence {
    do {
      while let bytes = try await input.read(maximumBytes: APIClient.Bounds.chunkBytes) {
        try await stream.write(bytes)
      }
      try Task.checkCancellation()
      try await stream.closeInput()
    } catch {
      return .inputEnded
    }
    return .inputEnded
  }

  static func exitCode(of exit: ExecExit) -> Int32 {
    exit.signal.map { 128 + $0 } ?? exit.exitCode
  }
}
