import AsyncHTTPClient
import Concurrency
import Connect
import ConnectServer
import GuestClient
import HTTPTypes
import HostAPI
import Hummingbird
import Logging
import Model
import NIOCore
import Protos
import SwiftProtobuf

/// A guest agent on loopback without processes. The command of a start request selects its behaviour.
struct FakeGuestAgent {
  let port: Int
  let record: Record
  let client: GuestClient

  /// The requests that the guest agent has received.
  final class Record: Sendable {
    let signals = Mutex<[Process_SendSignalRequest]>([])
    let inputs = Mutex<[Process_ProcessInput]>([])
    /// How long the process takes to read its input.
    let inputDelay = Mutex(Duration.zero)
    let closesInput = Mutex(false)
    let starts = Mutex<[(Process_StartRequest, HTTPFields)]>([])
    /// Source port of each start; equal ports mean one connection.
    let sourcePorts = Mutex<[Int]>([])
    let ended = Mutex(0)
    let written = Mutex(0)
    let requests = Mutex<[(Request, ByteBuffer)]>([])
  }

  @discardableResult
  static func run<Value: Sendable>(
    limits: GuestLimits = GuestLimits(), _ body: @escaping @Sendable (FakeGuestAgent) async throws -> Value
  ) async throws -> Value {
    let record = Record()
    let router = Router(context: BasicConnectRequestContext.self)
    FakeProcesses(record: record).register(on: ConnectRouter(router))
    FakeGuestFiles(record: record).register(on: router)
    let httpClient = GuestClient.makeHTTPClient()
    let result: Result<Value, any Error>
    do {
      let value = try await serving(router) { port in
        let client = GuestClient(
          address: "127.0.0.1", port: port, accessToken: "secret", httpClient: httpClient, limits: limits,
          logger: Logger(label: "guest client"))
        return try await body(FakeGuestAgent(port: port, record: record, client: client))
      }
      result = .success(value)
    } catch {
      result = .failure(error)
    }
    try await httpClient.shutdown()
    return try result.get()
  }
}

/// The process service of the fake guest agent.
struct FakeProcesses: Sendable {
  private static let service = "process.Process"
  static let pid: UInt32 = 42

  let record: FakeGuestAgent.Record

  func register(on router: ConnectRouter<BasicConnectRequestContext>) {
    router.serverStream(Self.service, "Start") {
      (request: Process_StartRequest, context, writer: ConnectWriter<Process_StartResponse>) in
      record.starts.withLock { $0.append((request, context.headers)) }
      record.sourcePorts.withLock { $0.append(context.remoteAddress?.port ?? 0) }
      defer { record.ended.withLock { $0 += 1 } }
      try await play(request) { event in try await writer.write(.with { $0.event = event }) }
    }
    router.serverStream(Self.service, "Connect") {
      (request: Process_ConnectRequest, _, writer: ConnectWriter<Process_ConnectResponse>) in
      guard request.process.pid == Self.pid || request.process.tag == "t" else {
        throw ConnectError(.notFound, "process with pid \(request.process.pid) not found")
      }
      try await writer.write(.with { $0.event.start.pid = Self.pid })
      try await writer.write(.with { $0.event.data.pty = .init([0x24]) })
      try await writer.write(.with { $0.event.end = .with { $0.exited = true } })
    }
    router.unary(Self.service, "List") { (_: Process_ListRequest, _) in
      Process_ListResponse.with {
        $0.processes = [
          .with {
            $0.pid = Self.pid
            $0.tag = "t"
            $0.config = .with {
              $0.cmd = "sleep"; $0.args = ["1"]; $0.cwd = "/"
            }
          }
        ]
      }
    }
    router.unary(Self.service, "SendSignal") { (request: Process_SendSignalRequest, _) -> Process_SendSignalResponse in
      guard request.process.pid == Self.pid else { throw ConnectError(.notFound, "process not found") }
      record.signals.withLock { $0.append(request) }
      return Process_SendSignalResponse()
    }
    router.unary(Self.service, "SendInput") { (request: Process_SendInputRequest, _) -> Process_SendInputResponse in
      if record.closesInput.withLock({ $0 }) {
        throw ConnectError(.internalError, "the process's standard input is closed")
      }
      try await Task.sleep(for: record.inputDelay.withLock { $0 })
      record.inputs.withLock { $0.append(request.input) }
      return Process_SendInputResponse()
    }
    router.unary(Self.service, "CloseStdin") { (_: Process_CloseStdinRequest, _) in Process_CloseStdinResponse() }
    router.unary(Self.service, "Update") { (_: Process_UpdateRequest, _) in Process_UpdateResponse() }
  }

  private typealias Emit = (Process_ProcessEvent) async throws -> Void

  private func play(_ request: Process_StartRequest, _ emit: Emit) async throws {
    switch request.process.cmd {
    case "refuse": throw ConnectError(.invalidArgument, "command 'refuse' not found")
    case "nobody": throw ConnectError(.unauthenticated, "invalid username: 'nobody'")
    case "broken": throw ConnectError(.internalError, "secret detail")
    case "mute": return try await Task.sleep(for: .seconds(60))
    default: break
    }
    try await emit(.with { $0.start.pid = Self.pid })
    switch request.process.cmd {
    case "idle": return try await Task.sleep(for: .seconds(60))
    case "ping": return try await ping(emit)
    case "flood": return try await flood(emit)
    case "vanish": return
    case "late": throw ConnectError(.deadlineExceeded, "the process was killed: its time-out has passed")
    default: break
    }
    try await emit(.with { $0.keepalive = .init() })
    try await emit(.with { $0.data.stdout = .init(0...255) })
    try await emit(.with { $0.data.stderr = .init([1]) })
    try await emit(
      .with {
        $0.end.exitCode = request.process.cmd == "killed" ? -1 : 3
        $0.end.signal = request.process.cmd == "killed" ? 9 : 0
        $0.end.timedOut = request.process.cmd == "killed"
      })
    if request.process.cmd == "killed" { throw ConnectError(.deadlineExceeded, "the process was killed") }
  }

  private func ping(_ emit: Emit) async throws {
    for _ in 0..<15 {
      try await Task.sleep(for: .milliseconds(100))
      try await emit(.with { $0.keepalive = .init() })
    }
    try await emit(.with { $0.end.exited = true })
  }

  private func flood(_ emit: Emit) async throws {
    for _ in 0..<2_000 {
      try await emit(.with { $0.data.stdout = .init(repeating: 1, count: 32_768) })
      record.written.withLock { $0 += 1 }
    }
    try await emit(.with { $0.end.exited = true })
  }
}
