import Concurrency
package import HostAPI
package import Model
package import NIOCore

/// The result of a command that ran to its end.
package struct ExecResult: Sendable {
  package var standardOutput: ByteBuffer
  package var standardError: ByteBuffer
  package var exitCode: Int32
  package var duration: Duration
  /// Must be kept until the output has been sent.
  package var reservation: OutputReservation
}

extension SandboxService {
  /// How much longer than its own time-out a command may take before the call fails.
  private static let execGrace: Duration = .seconds(10)

  /// Runs a command and collects its output.
  ///
  /// Cancelling the call kills the guest process. So does output beyond `Limits.execOutputBytes`, which is an error:
  /// truncated output would look complete.
  /// - Throws: `too_large`; `rate_limited` when the output budget is exhausted; `deadline_exceeded` when
  ///   `request.timeout` has passed; `invalid_state`; the host's error.
  package func exec(_ request: ProcessRequest, in id: SandboxID, for caller: Caller) async throws -> ExecResult {
    let begin = ContinuousClock.now
    return try await audited("process.exec", id, caller) {
      let session = try await open(request, in: id, for: caller)
      do {
        let (output, exit) = try await collectInTime(session, request.timeout)
        await session.end(killing: false)
        activity.touch(id, at: now)
        guard !exit.isTimeout else { throw Self.timedOut(request.timeout) }
        return ExecResult(
          standardOutput: output.standardOutput, standardError: output.standardError, exitCode: exit.exitCode,
          duration: ContinuousClock.now - begin, reservation: output.reservation)
      } catch {
        await session.end(killing: true)
        throw error
      }
    }
  }

  /// Starts a process. The caller may follow its events, and must end the session with `end`.
  package func startProcess(
    _ request: ProcessRequest, in id: SandboxID, for caller: Caller
  ) async throws -> any ProcessSession {
    try await audited("process.start", id, caller) { try await open(request, in: id, for: caller) }
  }

  /// - Throws: `not_found` when the process does not exist.
  package func attachProcess(
    _ selector: ProcessSelector, in id: SandboxID, for caller: Caller
  ) async throws -> any ProcessSession {
    let host = try await runningHost(of: id, for: caller)
    return try await guestCall { try await host.attachProcess(selector, in: id) }
  }

  package func listProcesses(in id: SandboxID, for caller: Caller) async throws -> [GuestProcess] {
    let host = try await runningHost(of: id, for: caller)
    return try await guestCall { try await host.listProcesses(in: id) }
  }

  /// - Throws: `not_found` when the process does not exist, `invalid_request` for an invalid signal number.
  package func signalProcess(
    _ selector: ProcessSelector, signal: Int32, in id: SandboxID, for caller: Caller
  ) async throws {
    guard (1...64).contains(signal) else {
      throw MartletError(.invalidRequest, "signal must be a name or a number from 1 to 64")
    }
    try await audited("process.signal", id, caller) {
      let host = try await runningHost(of: id, for: caller)
      try await guestCall { try await host.signalProcess(selector, signal: signal, in: id) }
    }
  }

  /// Records activity, while a connection to the sandbox is open.
  package func touch(_ id: SandboxID) {
    activity.touch(id, at: now)
  }

  private func open(_ request: ProcessRequest, in id: SandboxID, for caller: Caller) async throws -> any ProcessSession
  {
    try request.validate()
    let host = try await runningHost(of: id, for: caller)
    return try await guestCall { try await host.startProcess(request, in: id) }
  }

  private func collectInTime(
    _ session: any ProcessSession, _ timeout: Duration?
  ) async throws -> (CollectedOutput, ProcessExit) {
    let reservation = outputBudget.reservation()
    guard let timeout, timeout > .zero else { return try await CollectedOutput.collect(session, reservation) }
    return try await waitAtMost(timeout + Self.execGrace, throwing: Self.timedOut(timeout)) {
      try await CollectedOutput.collect(session, reservation)
    }
  }

  private static func timedOut(_ timeout: Duration?) -> MartletError {
    let seconds = timeout?.components.seconds ?? 0
    return MartletError(
      .deadlineExceeded,
      "the command did not end within \(seconds) seconds and was killed; raise timeout_sec, or use exec/stream")
  }
}

/// The collected output of a command, of bounded size.
private struct CollectedOutput: Sendable {
  var standardOutput = ByteBuffer()
  var standardError = ByteBuffer()
  let reservation: OutputReservation

  static func collect(
    _ session: any ProcessSession, _ reservation: OutputReservation
  ) async throws -> (CollectedOutput, ProcessExit) {
    var collected = CollectedOutput(reservation: reservation)
    for try await event in session.events {
      switch event {
      case .started: continue
      case .output(let stream, let bytes): try collected.append(bytes, to: stream)
      case .exited(let exit): return (collected, exit)
      }
    }
    try Task.checkCancellation()
    throw MartletError(.agentError, "the connection to the command was lost before it ended")
  }

  private mutating func append(_ bytes: ByteBuffer, to stream: ProcessEvent.OutputStream) throws {
    try reservation.grow(by: bytes.readableBytes)
    switch stream {
    case .standardError: try Self.append(bytes, to: &standardError, "stderr")
    case .standardOutput, .terminal: try Self.append(bytes, to: &standardOutput, "stdout")
    }
  }

  private static func append(_ bytes: ByteBuffer, to buffer: inout ByteBuffer, _ name: String) throws {
    guard buffer.readableBytes + bytes.readableBytes <= Limits.execOutputBytes else {
      throw MartletError(
        .tooLarge,
        "the command wrote more than \(Limits.execOutputBytes) bytes to \(name) and was killed; "
          + "use exec/stream for long output"
      )
    }
    buffer.writeImmutableBuffer(bytes)
  }
}
