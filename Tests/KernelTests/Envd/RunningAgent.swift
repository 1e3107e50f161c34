import AsyncHTTPClient
import Connect
import ConnectClient
import ConnectServer
import Envd
import FoundationEssentials
import Glibc
import HTTPTypes
import LinuxSystem
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Protos
import SwiftProtobuf
import SystemPackage
import Testing

/// The agent in this process on a loopback port, with a client. Needs root, because the agent starts processes as other
/// users.
struct RunningAgent: Sendable {
  let local: GuestAgent?
  let port: Int
  let http: HTTPClient
  let connect: ConnectClient

  /// A client of an agent in another process, so `agent` is not available.
  static func remote(port: Int, http: HTTPClient) -> RunningAgent {
    RunningAgent(
      local: nil, port: port, http: http, connect: ConnectClient(baseURL: "http://127.0.0.1:\(port)", httpClient: http))
  }

  var agent: GuestAgent {
    guard let local else { preconditionFailure("the agent runs in another process") }
    return local
  }

  static func with(
    codec: ConnectCodec = .proto, state: GuestState = GuestState(),
    _ body: @escaping @Sendable (RunningAgent) async throws -> Void
  ) async throws {
    try #require(getuid() == 0, "the kernel tests need root; run them with `make test` as root")
    let agent = try GuestAgent(
      .init(port: 0), state: state, group: MultiThreadedEventLoopGroup.singleton,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    var configuration = HTTPClient.Configuration()
    configuration.decompression = .disabled
    let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    let (ports, port) = AsyncStream<Int>.makeStream()
    let server = Task { try await agent.run { port.yield($0) } }
    var iterator = ports.makeAsyncIterator()
    let number = try #require(await iterator.next())
    let running = RunningAgent(
      local: agent, port: number, http: http,
      connect: ConnectClient(baseURL: "http://127.0.0.1:\(number)", httpClient: http, codec: codec))
    let outcome = await Task { try await body(running) }.result
    // The agent reaps children only while it runs.
    for process in agent.registry.running { _ = process.signal(SIGKILL, group: true) }
    try await eventually("all children are reaped") { agent.reaper.count == 0 }
    try await http.shutdown()
    server.cancel()
    _ = await server.result
    try outcome.get()
  }

  typealias Events = ConnectResponses<Process_StartResponse>

  func start(
    _ command: String, _ arguments: [String] = [], user: String? = nil, timeoutMilliseconds: Int? = nil,
    headers: [(String, String)] = [],
    configure: (inout Process_StartRequest) -> Void = { _ in }
  ) async throws -> Events {
    var request = Process_StartRequest()
    request.process.cmd = command
    request.process.args = arguments
    request.stdin = false
    configure(&request)
    var options = ConnectCallOptions()
    if let user {
      options.headers.add(name: "Authorization", value: "Basic \(Data("\(user):".utf8).base64EncodedString())")
    }
    if let timeoutMilliseconds { options.headers.add(name: "Connect-Timeout-Ms", value: "\(timeoutMilliseconds)") }
    for (name, value) in headers { options.headers.add(name: name, value: value) }
    return try await connect.serverStream(ProcessService.name, "Start", request, options: options)
  }

  func attach(_ pid: UInt32) async throws -> ConnectResponses<Process_ConnectResponse> {
    try await connect.serverStream(
      ProcessService.name, "Connect", Process_ConnectRequest.with { $0.process.pid = pid },
      options: ConnectCallOptions())
  }

  func sendInput(_ pid: UInt32, _ text: String, terminal: Bool = false) async throws {
    let request = Process_SendInputRequest.with {
      $0.process.pid = pid
      if terminal { $0.input.pty = Data(text.utf8) } else { $0.input.stdin = Data(text.utf8) }
    }
    let _: Process_SendInputResponse = try await connect.unary(ProcessService.name, "SendInput", request)
  }

  func signal(_ pid: UInt32, _ signal: Process_Signal, group: Bool = false) async throws {
    let request = Process_SendSignalRequest.with {
      $0.process.pid = pid
      $0.signal = signal
      $0.processGroup = group
    }
    let _: Process_SendSignalResponse = try await connect.unary(ProcessService.name, "SendSignal", request)
  }

  func list() async throws -> [Process_ProcessInfo] {
    let response: Process_ListResponse = try await connect.unary(ProcessService.name, "List", Process_ListRequest())
    return response.processes
  }

  /// Runs a command to its end.
  func run(
    _ command: String, _ arguments: [String] = [], user: String? = nil,
    configure: (inout Process_StartRequest) -> Void = { _ in }
  ) async throws -> Transcript {
    try await Transcript(try await start(command, arguments, user: user, configure: configure))
  }
}

/// All events of a process stream.
struct Transcript: Sendable {
  var pid: UInt32?
  var standardOutput = Data()
  var standardError = Data()
  var terminal = Data()
  var end: Process_ProcessEvent.EndEvent?
  var error: ConnectError?
  var largestChunk = 0
  var chunks = 0

  var text: String { String(decoding: standardOutput, as: UTF8.self) }
  var terminalText: String { String(decoding: terminal, as: UTF8.self) }

  init(_ events: ConnectResponses<Process_StartResponse>) async throws {
    do {
      for try await response in events { add(response.event) }
    } catch let error as ConnectError {
      self.error = error
    }
  }

  init(_ events: ConnectResponses<Process_ConnectResponse>) async throws {
    do {
      for try await response in events { add(response.event) }
    } catch let error as ConnectError {
      self.error = error
    }
  }

  private mutating func add(_ event: Process_ProcessEvent) {
    switch event.event {
    case .start(let start): pid = start.pid
    case .data(let data): add(data)
    case .end(let end): self.end = end
    case .keepalive, nil: break
    }
  }

  private mutating func add(_ data: Process_ProcessEvent.DataEvent) {
    chunks += 1
    switch data.output {
    case .stdout(let bytes): standardOutput += bytes
    case .stderr(let bytes): standardError += bytes
    case .pty(let bytes): terminal += bytes
    case nil: break
    }
    largestChunk = max(largestChunk, data.stdout.count, data.stderr.count, data.pty.count)
  }
}

/// Polls a condition until it holds. Fails after `limit`; if the condition hangs, the test's time limit ends it.
func eventually(
  _ what: Comment, within limit: Duration = .seconds(10), _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + limit
  while try await !condition() {
    try #require(ContinuousClock.now < deadline, what)
    try await Task.sleep(for: .milliseconds(10))
  }
}

/// Whether a process exists and is not a zombie.
func isAlive(_ pid: UInt32) -> Bool {
  guard let status = try? SmallFile.readText("/proc/\(pid)/stat"), let close = status.lastIndex(of: ")") else {
    return false
  }
  return !status[close...].hasPrefix(") Z")
}

/// Children of this process that have ended and were not reaped.
func zombies() throws -> Int {
  try Directories.names(in: "/proc").filter { UInt32($0) != nil }.filter { pid in
    guard let status = try? SmallFile.readText("/proc/\(pid)/stat"), let close = status.lastIndex(of: ")") else {
      return false
    }
    return status[close...].hasPrefix(") Z \(getpid()) ")
  }.count
}

func openDescriptors() throws -> Int {
  try Directories.names(in: "/proc/self/fd").count
}

extension String {
  var trimmed: String { String(split(separator: "\n").joined(separator: "\n").drop { $0 == " " }) }
}
