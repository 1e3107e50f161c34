import Concurrency
import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import WebSocket

/// Connects one client to one guest process over a WebSocket.
///
/// The process is killed when the client sends `stop`, disconnects or stops responding, unless it is detached. Output
/// is read from the guest only as fast as the client reads it, and bytes are passed on unchanged.
struct ProcessStream: Sendable {
  static let openingDeadline: Duration = .seconds(30)
  /// Failed requests that wait to be reported; of more the oldest are dropped.
  private static let maximumWaitingFailures = 16

  let service: SandboxService
  let authenticator: Authenticator
  /// How often an open stream resets the idle timer and the caller is authenticated again.
  let touchInterval: Duration
  let id: SandboxID
  let caller: Caller
  let dialect: StreamDialect

  /// - Parameter opening: nil to read it from the client's first message.
  func run(_ opening: StreamOpening?, _ inbound: WebSocketInbound, _ outbound: WebSocketOutbound) async throws {
    do {
      let opening = if let opening { opening } else { try await receiveOpening(inbound) }
      try await follow(opening, inbound, outbound)
    } catch let error where error is WebSocketConnectionLost || error is WebSocketProtocolError {
      throw error
    } catch {
      try Task.checkCancellation()
      let failure = MartletError.wrapping(error)
      let message: JSONValue = [
        "type": "error", "code": .string(failure.code.rawValue), "message": .string(failure.message),
      ]
      try await outbound.send(text: JSONWriter.text(message))
    }
  }

  private func receiveOpening(_ inbound: WebSocketInbound) async throws -> StreamOpening {
    let dialect = dialect
    return try await withThrowingTaskGroup(of: StreamOpening.self) { group in
      group.addTask {
        var messages = inbound.makeAsyncIterator()
        guard let message = try await messages.next() else { throw WebSocketConnectionLost() }
        guard case .text(let text) = message else {
          throw MartletError(.invalidRequest, "the first message must be text")
        }
        return try StreamOpening(text, dialect)
      }
      group.addTask {
        try await Task.sleep(for: Self.openingDeadline)
        throw MartletError(.deadlineExceeded, "the client sent no first message within 30 seconds")
      }
      defer { group.cancelAll() }
      guard let opening = try await group.next() else { throw WebSocketConnectionLost() }
      return opening
    }
  }

  private func follow(_ opening: StreamOpening, _ inbound: WebSocketInbound, _ outbound: WebSocketOutbound) async throws
  {
    let (session, tag) = try await open(opening.subject)
    let ending = ProcessEnding()
    let (failures, failed) = AsyncStream.makeStream(
      of: ControlFailure.self, bufferingPolicy: .bufferingNewest(Self.maximumWaitingFailures))
    do {
      try await outbound.send(text: JSONWriter.text(dialect.started(pid: session.pid, tag: tag)))
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          try await sendOutput(of: session, isBinary: opening.isBinary, outbound, ending)
        }
        group.addTask { try await forwardInput(inbound, session, opening, failed) }
        group.addTask { try await report(failures, outbound) }
        group.addTask { try await keepActive() }
        defer { group.cancelAll() }
        // Ends with the first task: the process exited, or the client disconnected.
        try await group.next()
      }
    } catch {
      await session.end(killing: !opening.isDetached && !ending.isKnown)
      throw error
    }
    await session.end(killing: !opening.isDetached && !ending.isKnown)
  }

  private func open(_ subject: StreamOpening.Subject) async throws -> (any ProcessSession, String?) {
    switch subject {
    case .start(let request):
      return (try await service.startProcess(request, in: id, for: caller), request.tag)
    case .attach(let selector):
      let tag: String? = if case .tag(let tag) = selector { tag } else { nil }
      return (try await service.attachProcess(selector, in: id, for: caller), tag)
    }
  }

  /// Resets the idle timer and authenticates the caller again, periodically.
  /// - Throws: `unauthorized` or `no_team` if the caller has lost access since the stream was opened.
  private func keepActive() async throws {
    while true {
      try await Task.sleep(for: touchInterval)
      try await reauthenticate()
      service.touch(id)
    }
  }

  /// Authenticates the caller again. While the database is unavailable the caller keeps access.
  private func reauthenticate() async throws {
    do {
      try await authenticator.confirm(caller.principal)
    } catch let error where Self.isRefusal(error) {
      throw error
    } catch {
      try Task.checkCancellation()
    }
  }

  private static func isRefusal(_ error: any Error) -> Bool {
    switch MartletError.wrapping(error).code {
    case .unauthorized, .noTeam: true
    default: false
    }
  }

  // MARK: Output

  private func sendOutput(
    of session: any ProcessSession, isBinary: Bool, _ outbound: WebSocketOutbound, _ ending: ProcessEnding
  ) async throws {
    for try await event in session.events {
      switch event {
      case .started:
        continue
      case .output(let stream, let bytes):
        try await send(bytes, of: stream, isBinary: isBinary, outbound)
      case .exited(let exit):
        ending.markKnown()
        return try await outbound.send(text: JSONWriter.text(Self.json(exit)))
      }
    }
    throw MartletError(.agentError, "the connection to the process broke before it exited; see GET …/processes")
  }

  private func send(
    _ bytes: ByteBuffer, of stream: ProcessEvent.OutputStream, isBinary: Bool, _ outbound: WebSocketOutbound
  ) async throws {
    guard isBinary else {
      let data = Data(bytes.readableBytesView).base64EncodedString()
      return try await outbound.send(
        text: JSONWriter.text(["type": .string(dialect.outputType(stream)), "data": .string(data)]))
    }
    var frame = ByteBuffer()
    frame.reserveCapacity(bytes.readableBytes + 1)
    frame.writeInteger(Self.leadingByte(stream))
    frame.writeImmutableBuffer(bytes)
    try await outbound.send(binary: frame)
  }

  private static func leadingByte(_ stream: ProcessEvent.OutputStream) -> UInt8 {
    switch stream {
    case .standardOutput: 1
    case .standardError: 2
    case .terminal: 3
    }
  }

  private static func json(_ exit: ProcessExit) -> JSONValue {
    let json: JSONValue = ["type": "exit", "exit_code": .integer(Int64(exit.exitCode))]
    return json.adding("signal", exit.signal.map { .integer(Int64($0)) }).adding(
      "timed_out", exit.isTimeout ? true : nil)
  }

  // MARK: Input

  /// Forwards the client's messages to the process; returns when the client disconnects or sends `stop`.
  private func forwardInput(
    _ inbound: WebSocketInbound, _ session: any ProcessSession, _ opening: StreamOpening,
    _ failed: AsyncStream<ControlFailure>.Continuation
  ) async throws {
    var input = InputState(opening)
    for try await message in inbound {
      switch try dialect.command(message) {
      case .input(let bytes): try await input.write(bytes, to: session)
      case .endOfInput: try await input.close(session)
      case .resize(let size): try await control("resize", failed) { try await session.resize(size) }
      case .signal(let signal): try await control("signal", failed) { try await session.signal(signal) }
      case .kill: try await control("kill", failed) { try await session.signal(Signal.kill) }
      case .stop: return
      }
    }
  }

  /// Does what the client requests of the process. A failure is reported and does not end the stream: the process and
  /// its output go on. One that has ended meanwhile needs no report, its exit follows.
  private func control(
    _ request: String, _ failed: AsyncStream<ControlFailure>.Continuation, _ body: () async throws -> Void
  ) async throws {
    do {
      try await body()
    } catch {
      try Task.checkCancellation()
      let failure = MartletError.wrapping(error)
      if failure.code != .notFound { failed.yield(ControlFailure(request: request, error: failure)) }
    }
  }

  /// Sends failures beside the output, so that a client that does not read its output does not hold up its requests.
  private func report(_ failures: AsyncStream<ControlFailure>, _ outbound: WebSocketOutbound) async throws {
    for await failure in failures {
      try await outbound.send(
        text: JSONWriter.text([
          "type": "control_error", "request": .string(failure.request), "code": .string(failure.error.code.rawValue),
          "message": .string(failure.error.message),
        ]))
    }
    // Only cancellation ends the stream of failures.
    throw CancellationError()
  }
}

/// A request of the client that the process did not get.
private struct ControlFailure: Sendable {
  /// `resize`, `signal` or `kill`.
  let request: String
  let error: MartletError
}

/// State of the process's standard input on the client's side.
private struct InputState {
  /// True for attached processes: only the guest knows whether they have a standard input.
  private let mayHaveInput: Bool
  private var isOpen = true

  init(_ opening: StreamOpening) {
    if case .start(let request) = opening.subject {
      mayHaveInput = request.hasStandardInput || request.terminal != nil
    } else {
      mayHaveInput = true
    }
  }

  /// Writes to standard input. If the process no longer reads (it may have exited while its output is still in
  /// transit), the input is discarded, as in a pipe, and the stream goes on. Any other failed write ends the stream:
  /// the process would otherwise take truncated input for the whole.
  mutating func write(_ bytes: ByteBuffer, to session: any ProcessSession) async throws {
    guard mayHaveInput else {
      throw MartletError(.invalidRequest, "the process has no standard input; start it with \"stdin\": true")
    }
    guard isOpen, bytes.readableBytes > 0 else { return }
    do {
      try await session.write(bytes)
    } catch let error as MartletError where error.code == .notFound {
      isOpen = false
    }
  }

  mutating func close(_ session: any ProcessSession) async throws {
    guard mayHaveInput, isOpen else { return }
    isOpen = false
    do {
      try await session.closeStandardInput()
    } catch let error as MartletError where error.code == .notFound {
      // The process has ended. Any other failure ends the stream: the process would wait for input for ever.
    }
  }
}

/// Records whether the process has exited, so that it need not be killed.
private final class ProcessEnding: Sendable {
  private let state = Mutex(false)

  var isKnown: Bool { state.withLock { $0 } }
  func markKnown() { state.withLock { $0 = true } }
}
