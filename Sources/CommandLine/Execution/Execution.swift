import APIClient
import ArgumentParser
import Concurrency
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
  private let progress = Progress()

  private enum Occurrence: Sendable {
    case exited(ExecExit)
    case inputEnded
    case told
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
        group.addTask { try await passInput(to: stream) }
        group.addTask { .signal(await signals.next()) }
        return try await supervise(&group, stream)
      }
    }
  }

  private func supervise(
    _ group: inout ThrowingTaskGroup<Occurrence, any Error>, _ stream: ExecStream
  ) async throws -> Int32 {
    var policy = InterruptPolicy()
    while let occurrence = try await group.next() {
      var action = InterruptPolicy.Action.none
      switch occurrence {
      case .exited(let exit): return Self.exitCode(of: exit)
      case .inputEnded, .told: break
      case .graceOver: action = policy.graceOver()
      case .signal(SIGWINCH?):
        if let size = terminal?.size {
          group.addTask {
            try? await stream.resize(cols: size.cols, rows: size.rows)
            return .told
          }
        }
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
    switch action {
    case .none: break
    case .forward(let name, let graceEnds):
      group.addTask { await send(name, over: stream) }
      if graceEnds { group.addTask { await Self.graceOver() } }
    case .kill:
      group.addTask { await send("SIGKILL", over: stream) }
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
      case .started(let pid): progress.noteStart(pid)
      case .output(.standardError, let bytes): try await console.write(bytes, to: console.error)
      case .output(_, let bytes): try await console.write(bytes, to: console.output)
      case .exited(let exit): return exit
      }
    }
    throw CancellationError()
  }

  /// Ends with the input, with the task, or when the command takes no more; none of these is an error of ours.
  /// - Throws: `OperatingSystemError` when the input cannot be read: the command must not take what it has for the
  ///   whole.
  private func passInput(to stream: ExecStream) async throws -> Occurrence {
    while let bytes = try await input.read(maximumBytes: APIClient.Bounds.chunkBytes) {
      progress.noteInput()
      guard (try? await stream.write(bytes)) != nil else { return .inputEnded }
    }
    if !Task.isCancelled { try? await stream.closeInput() }
    return .inputEnded
  }

  /// Input that the command does not read waits in the stream, and what comes after it waits too. A signal must not.
  private func send(_ signal: String, over stream: ExecStream) async -> Occurrence {
    if let pid = progress.pidWithInput, (try? await client.signalProcess(pid, signal, in: sandbox)) != nil {
      return .told
    }
    // A connection that no longer takes a signal is reported by the task that reads from it.
    try? await stream.signal(signal)
    return .told
  }

  static func exitCode(of exit: ExecExit) -> Int32 {
    exit.signal.map { 128 + $0 } ?? exit.exitCode
  }
}

/// How far the command has come.
private final class Progress: Sendable {
  private let state = Mutex((pid: UInt32?.none, hasInput: false))

  /// Of a command that was sent input.
  var pidWithInput: UInt32? { state.withLock { $0.hasInput ? $0.pid : nil } }

  func noteStart(_ pid: UInt32) { state.withLock { $0.pid = pid } }
  func noteInput() { state.withLock { $0.hasInput = true } }
}
