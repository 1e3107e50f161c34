import Concurrency
import FakeServer
import Model
import NIOCore
import NIOHTTP1
import Testing

@testable import APIClient

@Suite("Streaming exec", .timeLimit(.minutes(1)))
struct ExecStreamTests {
  /// Runs a command of the fake guest to completion.
  private func run(
    _ command: String, _ arguments: [String] = [], server: FakeMartlet = FakeMartlet(),
    drive: @escaping @Sendable (ExecStream) async throws -> Void = { _ in }
  ) async throws -> (output: [UInt8], exit: ExecExit) {
    let id = try #require(SandboxID(wire: server.addSandbox()))
    return try await server.serving { url in
      try await APIClient.withClient(ClientCredentials(endpoint: try Endpoint(url), apiKey: FakeMartlet.apiKey)) {
        client in
        try await client.withExec(ExecStart(command: command, arguments: arguments), in: id) { stream in
          try await Self.collect(stream, drive: drive)
        }
      }
    }
  }

  private static func collect(
    _ stream: ExecStream, drive: @escaping @Sendable (ExecStream) async throws -> Void
  ) async throws -> (output: [UInt8], exit: ExecExit) {
    async let driving: Void = drive(stream)
    var output: [UInt8] = []
    var exit: ExecExit?
    for try await event in stream.events {
      switch event {
      case .started(let pid): #expect(pid == 99)
      case .output(_, let bytes): output += bytes.readableBytesView
      case .controlFailed: Issue.record("no request fails here")
      case .exited(let value): exit = value
      }
    }
    try await driving
    return (output, try #require(exit))
  }

  @Test("all 256 byte values arrive unchanged across frame borders")
  func allBytes() async throws {
    let result = try await run("all-bytes")
    #expect(result.output == (0...255).map { UInt8($0) })
    #expect(result.exit == ExecExit(exitCode: 0, signal: nil))
  }

  @Test("several megabytes of input are echoed byte for byte, and the end of input is seen")
  func echo() async throws {
    let piece = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let result = try await run("cat") { stream in
      for _ in 0..<10 { try await stream.write(ByteBuffer(bytes: piece)) }
      try await stream.closeInput()
    }
    #expect(result.output == Array(repeating: piece, count: 10).flatMap { $0 })
    #expect(result.exit.exitCode == 0)
  }

  @Test("exit codes pass through", arguments: [0, 1, 7, 127, 255])
  func exitCodes(_ code: Int) async throws {
    #expect(try await run("exit", ["\(code)"]).exit.exitCode == Int32(code))
  }

  @Test("a signal reaches the command and its exit names it")
  func signal() async throws {
    let server = FakeMartlet()
    let result = try await run("wait", server: server) { try await $0.signal("SIGTERM") }
    #expect(result.exit == ExecExit(exitCode: 143, signal: 15))
    #expect(server.state.withLock { $0.controls } == [#"{"signal":"SIGTERM","type":"signal"}"#])
  }

  @Test("a request that did not reach the command is an event, and the stream goes on")
  func controlFailure() throws {
    let frame = #"{"type":"control_error","request":"signal","code":"agent_error","message":"no answer"}"#
    #expect(try ExecCodec.decode(text: frame) == .controlFailed(request: "signal", message: "no answer"))
    #expect(try ExecCodec.decode(text: #"{"type":"a_newer_kind"}"#) == nil)
    #expect(throws: APIError.self) { try ExecCodec.decode(text: #"{"type":"error","message":"over"}"#) }
  }

  @Test("a connection that breaks before the exit is an error, never a success")
  func broken() async throws {
    let error = await #expect(throws: APIError.self) { try await run("break") }
    #expect(error?.localCode == .connectionLost)
    #expect(error?.exitCode == 74)
  }

  @Test("an error frame keeps its code")
  func errorFrame() async throws {
    let error = await #expect(throws: APIError.self) { try await run("fail") }
    #expect(error?.errorCode == .agentError)
    #expect(error?.exitCode == ErrorCode.agentError.meaning.exitCode)
  }

  @Test("a refused upgrade keeps the server's error")
  func refusedUpgrade() async throws {
    let error = await #expect(throws: APIError.self) {
      try await FakeServer.serving(requests: { exchange in
        _ = try await exchange.body()
        try await exchange.respond(.notFound, #"{"error":{"code":"not_found","message":"no such sandbox"}}"#)
      }) { server in
        try await APIClient.withClient(ClientCredentials(endpoint: try Endpoint(server.url), apiKey: "k")) { client in
          try await client.withExec(ExecStart(command: "cat"), in: SandboxID()) { _ in }
        }
      }
    }
    #expect(error?.errorCode == .notFound)
    #expect(error?.status == 404)
  }

  @Test("returning early closes the connection")
  func leaving() async throws {
    let server = FakeMartlet()
    let id = try #require(SandboxID(wire: server.addSandbox()))
    struct Enough: Error {}
    await #expect(throws: Enough.self) {
      try await server.serving { url in
        try await APIClient.withClient(ClientCredentials(endpoint: try Endpoint(url), apiKey: FakeMartlet.apiKey)) {
          client in
          try await client.withExec(ExecStart(command: "wait"), in: id) { stream in
            for try await _ in stream.events { throw Enough() }
          }
        }
      }
    }
  }
}

@Suite("Frames of exec/stream")
struct ExecCodecTests {
  @Test(
    "frames that do not match the API are errors",
    arguments: ["", "{}", "[]", "null", #"{"type":"exit"}"#, #"{"type":"start"}"#, #"{"type":"exit","exit_code":"7"}"#])
  func malformed(_ text: String) {
    #expect(throws: APIError.self) { try ExecCodec.decode(text: text) }
  }

  @Test("unknown message types are ignored")
  func unknownKind() throws {
    #expect(try ExecCodec.decode(text: #"{"type":"notice","text":"hello"}"#) == nil)
  }

  @Test("a signal may be a name or a number")
  func signalForms() throws {
    let byName = try ExecCodec.decode(text: #"{"type":"exit","exit_code":137,"signal":"SIGKILL"}"#)
    let byNumber = try ExecCodec.decode(text: #"{"type":"exit","exit_code":137,"signal":9}"#)
    #expect(byName == byNumber)
    #expect(byName == .exited(ExecExit(exitCode: 137, signal: 9)))
  }

  @Test("output without a known leading byte is an error", arguments: [[], [0], [4, 65]] as [[UInt8]])
  func leadingByte(_ bytes: [UInt8]) {
    #expect(throws: APIError.self) { try ExecCodec.decode(binary: ByteBuffer(bytes: bytes)) }
  }

  @Test("the first frame contains the command and omits unset fields")
  func startFrame() throws {
    let text = try ExecCodec.encode(ExecStart(command: "ls", arguments: ["-l"], terminal: .init(cols: 80, rows: 24)))
    #expect(text.contains(#""cmd":"ls""#) && text.contains(#""binary":true"#) && text.contains(#""stdin":true"#))
    #expect(!text.contains("cwd") && !text.contains("tag"))
  }

  @Test("signal names are parsed in all forms", arguments: ["SIGTERM", "TERM", "term", "sigterm"])
  func signalNames(_ name: String) {
    #expect(SignalName.number(of: name) == 15)
    #expect(SignalName.name(of: 15) == "SIGTERM")
    #expect(SignalName.number(of: "NOPE") == nil)
  }
}
