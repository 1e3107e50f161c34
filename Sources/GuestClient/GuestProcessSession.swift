import Concurrency
import Connect
import ConnectClient
import HostAPI
import Logging
import Model
import NIOCore
import Protos
import SwiftProtobuf

/// One process of a guest and one stream of its events.
final class GuestProcessSession: ProcessSession {
  /// The kind of a process's input. A session that attached to a process learns it with the first write.
  enum Input: Sendable {
    case standardInput
    case terminal
    case unknown
  }

  /// The character that a terminal takes as end of file. Source: termios(3), VEOF.
  private static let endOfTransmission: UInt8 = 4

  let pid: UInt32
  private let stream: BoundedStream<ProcessEvent>
  private let guest: GuestClient
  private let state: Mutex<State>

  private struct State {
    var input: Input
    var isDetached = false
  }

  init(pid: UInt32, input: Input, events: BoundedStream<ProcessEvent>, guest: GuestClient) {
    self.pid = pid
    self.stream = events
    self.guest = guest
    state = Mutex(State(input: input))
  }

  var events: any AsyncSequence<ProcessEvent, any Error> & Sendable {
    SessionEvents(pid: pid, rest: stream)
  }

  func write(_ bytes: ByteBuffer) async throws {
    var rest = bytes
    while rest.readableBytes > 0,
      let piece = rest.readSlice(length: min(rest.readableBytes, guest.limits.inputPieceBytes))
    {
      try await send(piece)
    }
  }

  func closeStandardInput() async throws {
    guard state.withLock({ $0.input }) != .terminal else {
      return try await send(ByteBuffer(bytes: [Self.endOfTransmission]))
    }
    let request = Process_CloseStdinRequest.with { $0.process.pid = pid }
    let _: Process_CloseStdinResponse = try await guest.process("CloseStdin", request)
  }

  func resize(_ size: TerminalSize) async throws {
    let request = Process_UpdateRequest.with {
      $0.process.pid = pid
      $0.pty = Process_PTY(size)
    }
    let _: Process_UpdateResponse = try await guest.process("Update", request)
  }

  func signal(_ signal: Int32) async throws {
    try await guest.signal(.pid(pid), signal: signal)
  }

  func detach(killing: Bool) async {
    let isFirst = state.withLock { state in
      defer { state.isDetached = true }
      return !state.isDetached
    }
    guard isFirst else { return }
    if killing { await kill() }
    stream.cancel()
  }

  /// Kills the process in an unstructured task: sessions mostly end because their caller was cancelled, and the process
  /// must be killed nevertheless.
  private func kill() async {
    let (guest, pid) = (guest, pid)
    await Task {
      do {
        let expiry = MartletError(.deadlineExceeded, "the guest agent did not respond in time")
        try await withDeadline(guest.limits.kill, throwing: expiry) { try await guest.signal(.pid(pid), signal: 9) }
      } catch let error as MartletError where error.code == .notFound {
        // The process has already ended.
      } catch {
        guest.logger.warning("guest process not killed", metadata: ["process.pid": "\(pid)", "error": "\(error)"])
      }
    }.value
  }

  private func send(_ piece: ByteBuffer) async throws {
    do {
      try await sendToInput(piece)
    } catch let error as ConnectError where error.code == .internalError {
      // With this code the agent reports that the input is closed. A silent agent leads to another code.
      throw MartletError(.notFound, "the process takes no more input", cause: error)
    } catch {
      throw GuestErrors.martletError(error, .process)
    }
  }

  private func sendToInput(_ piece: ByteBuffer) async throws {
    let input = state.withLock { $0.input }
    do {
      try await send(piece, toTerminal: input == .terminal)
    } catch let error as ConnectError where input == .unknown && error.code == .internalError {
      // With this code the agent also refuses input of the wrong kind.
      try await send(piece, toTerminal: true)
      state.withLock { $0.input = .terminal }
    }
  }

  /// Sends one piece of input. Without a time limit: the agent responds when the guest's kernel has taken the bytes,
  /// and a busy process may keep its input full for long. The writing task is cancelled when the session ends.
  private func send(_ piece: ByteBuffer, toTerminal: Bool) async throws {
    let request = Process_SendInputRequest.with {
      $0.process.pid = pid
      $0.input = Process_ProcessInput(piece, isTerminal: toTerminal)
    }
    let _: Process_SendInputResponse = try await guest.connect.unary(
      GuestClient.processService, "SendInput", request, options: ConnectCallOptions(headers: guest.headers()))
  }
}

extension Process_ProcessInput {
  init(_ bytes: ByteBuffer, isTerminal: Bool) {
    self.init()
    let data = bytes.foundationData
    if isTerminal { pty = data } else { stdin = data }
  }
}

/// Yields the `started` event that opening the session has consumed, then the remaining events.
private struct SessionEvents: AsyncSequence, Sendable {
  typealias Element = ProcessEvent

  let pid: UInt32
  let rest: BoundedStream<ProcessEvent>

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(first: .started(pid: pid), rest: rest.makeAsyncIterator())
  }

  struct AsyncIterator: AsyncIteratorProtocol {
    var first: ProcessEvent?
    let rest: BoundedStream<ProcessEvent>.AsyncIterator

    mutating func next() async throws -> ProcessEvent? {
      if let first {
        self.first = nil
        return first
      }
      do {
        return try await rest.next()
      } catch {
        throw GuestErrors.martletError(error, .process)
      }
    }
  }
}
