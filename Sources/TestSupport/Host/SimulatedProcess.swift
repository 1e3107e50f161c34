import Concurrency
package import HostAPI
package import Model
package import NIOCore

/// A process of a simulated guest, which understands these commands:
///
/// | command | behaviour |
/// |---|---|
/// | `echo ARGS` | writes its arguments and a line break to standard output |
/// | `warn ARGS` | the same to standard error |
/// | `exit N` | ends with N |
/// | `bytes` | writes all 256 byte values, one by one |
/// | `cat` | copies standard input until its end |
/// | `sleep` | does nothing until a signal ends it |
/// | `deaf` | never takes standard input |
/// | `flood` | writes without end, as fast as it is read |
/// | `late` | is killed by its time-out |
/// | `break` | its stream breaks after some output |
package final class SimulatedProcess: Sendable {
  package let pid: UInt32
  package let request: ProcessRequest

  private struct State {
    var listeners: [Int: AsyncThrowingStream<ProcessEvent, any Error>.Continuation] = [:]
    var nextListener = 0
    var exit: ProcessExit?
    var signals: [Int32] = []
    var sizes: [TerminalSize] = []
    var input = ByteBuffer()
    var controlFailure: MartletError?
  }

  private let state = Mutex(State())

  init(pid: UInt32, request: ProcessRequest) {
    self.pid = pid
    self.request = request
  }

  package var isAlive: Bool { state.withLock { $0.exit == nil } }
  package var signals: [Int32] { state.withLock { $0.signals } }
  package var sizes: [TerminalSize] { state.withLock { $0.sizes } }
  package var input: ByteBuffer { state.withLock { $0.input } }

  func listen() -> (Int, AsyncThrowingStream<ProcessEvent, any Error>) {
    let (stream, continuation) = AsyncThrowingStream<ProcessEvent, any Error>.makeStream()
    continuation.yield(.started(pid: pid))
    let number = state.withLock { state in
      state.nextListener += 1
      state.listeners[state.nextListener] = continuation
      return state.nextListener
    }
    return (number, stream)
  }

  func removeListener(_ listener: Int) {
    state.withLock { $0.listeners.removeValue(forKey: listener) }?.finish()
  }

  /// Runs the command as far as it needs no input.
  func begin() {
    let text = request.arguments.joined(separator: " ") + "\n"
    switch request.command {
    case "echo":
      emit(ByteBuffer(string: text), .standardOutput)
      finish(ProcessExit(exitCode: 0))
    case "warn":
      emit(ByteBuffer(string: text), .standardError)
      finish(ProcessExit(exitCode: 0))
    case "exit":
      finish(ProcessExit(exitCode: request.arguments.first.flatMap { Int32($0) } ?? 0))
    case "bytes":
      for byte in UInt8.min...UInt8.max { emit(ByteBuffer(bytes: [byte]), .standardOutput) }
      finish(ProcessExit(exitCode: 0))
    case "late":
      finish(ProcessExit(exitCode: 137, signal: 9, isTimeout: true))
    case "break":
      emit(ByteBuffer(string: "some"), .standardOutput)
      fail(SimulatedFault())
    default:
      break
    }
  }

  func take(_ bytes: ByteBuffer) {
    state.withLock { _ = $0.input.writeImmutableBuffer(bytes) }
    let stream: ProcessEvent.OutputStream = request.terminal == nil ? .standardOutput : .terminal
    if request.command == "cat" || request.terminal != nil { emit(bytes, stream) }
  }

  func endInput() {
    if request.command == "cat" { finish(ProcessExit(exitCode: 0)) }
  }

  /// Has every request that is not input fail with `error`; nil lets them through.
  package func failControl(_ error: MartletError?) {
    state.withLock { $0.controlFailure = error }
  }

  func checkControl() throws {
    if let error = state.withLock({ $0.controlFailure }) { throw error }
  }

  func resize(_ size: TerminalSize) {
    state.withLock { $0.sizes.append(size) }
  }

  package func receive(signal: Int32) {
    state.withLock { $0.signals.append(signal) }
    if [1, 2, 9, 15].contains(signal) { finish(ProcessExit(exitCode: 128 + signal, signal: signal)) }
  }

  private func emit(_ bytes: ByteBuffer, _ stream: ProcessEvent.OutputStream) {
    let listeners = state.withLock { Array($0.listeners.values) }
    for listener in listeners { listener.yield(.output(stream, bytes)) }
  }

  private func finish(_ exit: ProcessExit) {
    let listeners = state.withLock { state -> [AsyncThrowingStream<ProcessEvent, any Error>.Continuation] in
      guard state.exit == nil else { return [] }
      state.exit = exit
      defer { state.listeners = [:] }
      return Array(state.listeners.values)
    }
    for listener in listeners {
      listener.yield(.exited(exit))
      listener.finish()
    }
  }

  private func fail(_ error: any Error) {
    let listeners = state.withLock { state in
      defer { state.listeners = [:] }
      return Array(state.listeners.values)
    }
    for listener in listeners { listener.finish(throwing: error) }
  }
}

package struct SimulatedFault: Error {
  package init() {}
}

/// A caller's session with a simulated process.
final class SimulatedSession: ProcessSession {
  let process: SimulatedProcess
  private let listener: Int
  let events: any AsyncSequence<ProcessEvent, any Error> & Sendable

  var pid: UInt32 { process.pid }

  init(_ process: SimulatedProcess) {
    self.process = process
    let (listener, stream) = process.listen()
    self.listener = listener
    if process.request.command == "flood" {
      events = AsyncThrowingStream<ProcessEvent, any Error> {
        process.isAlive ? .output(.standardOutput, ByteBuffer(repeating: 0x78, count: 65_536)) : nil
      }
    } else {
      events = stream
    }
  }

  func write(_ bytes: ByteBuffer) async throws {
    if process.request.command == "deaf" { try await Task.sleep(for: .seconds(3_600)) }
    guard process.isAlive else { throw MartletError(.notFound, "the process takes no more input") }
    process.take(bytes)
  }

  func closeStandardInput() async throws { process.endInput() }
  func resize(_ size: TerminalSize) async throws {
    try process.checkControl()
    process.resize(size)
  }

  func signal(_ signal: Int32) async throws {
    try process.checkControl()
    process.receive(signal: signal)
  }

  func detach(killing: Bool) async {
    // Like a real guest agent, which is called over the network: a cancelled task cannot call it.
    if Task.isCancelled { return }
    process.removeListener(listener)
    if killing { process.receive(signal: 9) }
  }
}
