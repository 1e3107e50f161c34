import APIClient
import ArgumentParser
import Concurrency
import Glibc
import Model
import NIOCore

/// Runs one command in a sandbox and connects it to this process's standard streams, signals and terminal.
struct Execution: Sendable {
  let client: APIClient
  let sandbox: SandboxID
  let console: Console
  let input: InputReader
  let signals: SignalWatcher
  /// The local terminal, whose size is forwarded on SIGWINCH; nil if the command has no terminal.
  var terminal: Terminal?
  private let progress = Progress()

  private enum Event: Sendable {
    case exited(ExecExit)
    case inputEnded
    case sent
    case signal(Int32?)
    case graceExpired
  }

  /// - Returns: the exit code of the command; 128 + n if signal n ended it.
  /// - Throws: `APIError` if the command cannot be started or its connection breaks; `OutputClosed` if the reader of
  ///   standard output has closed the pipe, in which case the command has been killed.
  func run(_ start: ExecStart) async throws -> Int32 {
    try await client.withExec(start, in: sandbox) { stream in
      try await withThrowingTaskGroup(of: Event.self) { group in
        defer { group.cancelAll() }
        group.addTask { .exited(try await passOutput(of: stream)) }
        group.addTask { try await passInput(to: stream) }
        group.addTask { .signal(await signals.next()) }
        return try await supervise(&group, stream)
      }
    }
  }

  private func supervise(
    _ group: inout ThrowingTaskGroup<Event, any Error>, _ stream: ExecStream
  ) async throws -> Int32 {
    var policy = InterruptPolicy()
    while let event = try await group.next() {
      var action = InterruptPolicy.Action.none
      switch event {
      case .exited(let exit): return Self.exitCode(of: exit)
      case .inputEnded, .sent: break
      case .graceExpired: action = policy.graceExpired()
      case .signal(SIGWINCH?):
        if let size = terminal?.size {
          group.addTask {
            // A connection that no longer takes it is reported by the task that reads from it.
            try? await stream.resize(cols: size.cols, rows: size.rows)
            return .sent
          }
        }
      case .signal(let number?): action = policy.handle(number, at: .now)
      case .signal(nil): continue
      }
      if case .signal = event { group.addTask { .signal(await signals.next()) } }
      try await perform(action, stream: stream, group: &group)
    }
    throw CancellationError()
  }

  private func perform(
    _ action: InterruptPolicy.Action, stream: ExecStream, group: inout ThrowingTaskGroup<Event, any Error>
  ) async throws {
    switch action {
    case .none: break
    case .forward(let name, let startsGrace):
      group.addTask { await send(name, over: stream) }
      if startsGrace { group.addTask { await Self.graceExpired() } }
    case .kill:
      group.addTask { await send("SIGKILL", over: stream) }
      group.addTask { await Self.graceExpired() }
    case .abandon(let signal):
      await console.complain("the command did not exit; leaving it to the server")
      throw ExitCode(128 + signal)
    }
  }

  private static func graceExpired() async -> Event {
    // If the sleep is cancelled the command has exited and the event is ignored.
    try? await Task.sleep(for: InterruptPolicy.grace)
    return .graceExpired
  }

  private func passOutput(of stream: ExecStream) async throws -> ExecExit {
    for try await event in stream.events {
      switch event {
      case .started(let pid): progress.noteStart(pid)
      case .output(.standardError, let bytes): try await console.write(bytes, to: console.error)
      case .output(_, let bytes): try await console.write(bytes, to: console.output)
      case .controlFailed(let request, let message): await complain(request, message)
      case .exited(let exit): return exit
      }
    }
    throw CancellationError()
  }

  /// Forwards standard input. Returns at the end of the input, when the task is cancelled, or when the command accepts
  /// no more input; none of these is an error.
  /// - Throws: `OperatingSystemError` if the input cannot be read, because the command would take truncated input for
  ///   the whole.
  private func passInput(to stream: ExecStream) async throws -> Event {
    while let bytes = try await input.read(maximumBytes: APIClient.Bounds.chunkBytes) {
      progress.noteInput()
      guard (try? await stream.write(bytes)) != nil else { return .inputEnded }
    }
    if !Task.isCancelled { try? await stream.closeInput() }
    return .inputEnded
  }

  /// Sends a signal. Unread input blocks later messages on the stream, so after input was sent the signal goes through
  /// a separate request.
  private func send(_ signal: String, over stream: ExecStream) async -> Event {
    if let pid = progress.pidWithInput {
      do {
        try await client.signalProcess(pid, signal, in: sandbox)
        return .sent
      } catch let error as APIError where error.errorCode == .notFound {
        // The command has ended; its exit follows.
        return .sent
      } catch {
        // The stream is the other way to the command; what fails there is reported by the server.
      }
    }
    // If the connection is broken, the task that reads from it reports the error.
    try? await stream.signal(signal)
    return .sent
  }

  /// Says what did not reach the command, which goes on.
  private func complain(_ request: String, _ message: String) async {
    await console.complain("the command did not get the \(request): \(message)")
  }

  static func exitCode(of exit: ExecExit) -> Int32 {
    exit.signal.map { 128 + $0 } ?? exit.exitCode
  }
}

/// State of the command that the tasks share.
private final class Progress: Sendable {
  private let state = Mutex((pid: UInt32?.none, hasInput: false))

  /// The process id, if input has been sent to the command.
  var pidWithInput: UInt32? { state.withLock { $0.hasInput ? $0.pid : nil } }

  func noteStart(_ pid: UInt32) { state.withLock { $0.pid = pid } }
  func noteInput() { state.withLock { $0.hasInput = true } }
}
