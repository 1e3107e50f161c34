import Concurrency
import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import WebSocket

/// One client following one process over a WebSocket (EX-2).
///
/// The process ends when the client says `stop`, disconnects or vanishes, unless it is detached (L-41). Output is
/// pulled from the guest as fast as the client takes it (L-42); bytes are never changed (L-40).
struct ProcessStream: Sendable {
  static let openingDeadline: Duration = .seconds(30)

  let service: SandboxService
  let authenticator: Authenticator
  /// How often an open stream counts as activity (L-32), and the caller is asked for again (L-63).
  let touchInterval: Duration
  let id: SandboxID
  let caller: Caller
  let dialect: StreamDialect

  /// - Parameter opening: nil to take it from the first message.
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
        throw MartletError(.deadlineExceeded, "the first message did not come in time")
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
    do {
      try await outbound.send(text: JSONWriter.text(dialect.started(pid: session.pid, tag: tag)))
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          try await sendOutput(of: session, isBinary: opening.isBinary, outbound, ending)
        }
        group.addTask { try await obey(inbound, session, opening) }
        group.addTask { try await keepActive() }
        defer { group.cancelAll() }
        // Whichever is first: the process ended, or the client left.
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

  /// - Throws: `unauthorized`, `no_team` when the caller may not be here any more.
  private func keepActive() async throws {
    while true {
      try await Task.sleep(for: touchInterval)
      try await confirmCaller()
      service.touch(id)
    }
  }

  /// A database that does not answer says nothing about the caller, and removes nobody meanwhile.
  private func confirmCaller() async throws {
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
        ending.note()
        return try await outbound.send(text: JSONWriter.text(Self.json(exit)))
      }
    }
    throw MartletError(.agentError, "the connection to the process was lost before it ended")
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

  /// Returns when the client leaves.
  private func obey(_ inbound: WebSocketInbound, _ session: any ProcessSession, _ opening: StreamOpening) async throws {
    var input = InputState(opening)
    for try await message in inbound {
      switch try dialect.command(message) {
      case .input(let bytes): try await input.write(bytes, to: session)
      case .endOfInput: try await input.close(session)
      case .resize(let size): try? await session.resize(size)
      case .signal(let signal): try? await session.signal(signal)
      case .kill: try? await session.signal(Signal.kill)
      case .stop: return
      }
    }
  }
}

/// Standard input of the process, as the client sees it.
private struct InputState {
  /// Attached sessions may have one; the guest knows.
  private let mayHaveInput: Bool
  private var isOpen = true

  init(_ opening: StreamOpening) {
    if case .start(let request) = opening.subject {
      mayHaveInput = request.hasStandardInput || request.terminal != nil
    } else {
      mayHaveInput = true
    }
  }

  /// A process that no longer reads (it may have ended, with output still on its way) is no reason to end the stream;
  /// as in a pipe, what is written to it is lost. Input that is lost for another reason is: the process would take what
  /// it has for the whole.
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
    try? await session.closeStandardInput()
  }
}

/// Whether the process has been seen to end; then there is nothing left to kill.
private final class ProcessEnding: Sendable {
  private let state = Mutex(false)

  var isKnown: Bool { state.withLock { $0 } }
  func note() { state.withLock { $0 = true } }
}
