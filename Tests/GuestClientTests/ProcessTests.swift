import Concurrency
import GuestClient
import HTTPTypes
import HostAPI
import Model
import NIOCore
import Protos
import Testing

@Suite("processes of a guest", .serialized, .timeLimit(.minutes(1)))
struct ProcessTests {
  private func collect(_ session: any ProcessSession) async throws -> [ProcessEvent] {
    var events: [ProcessEvent] = []
    for try await event in session.events { events.append(event) }
    return events
  }

  private static func hasPrefix(_ error: MartletError?, _ code: ErrorCode, _ text: String = "") -> Bool {
    error?.code == code && (error?.message.hasPrefix(text) ?? false)
  }

  @Test("the events of a process arrive in order and unchanged; keep-alives are not delivered")
  func events() async throws {
    try await FakeGuestAgent.run { guest in
      let session = try await guest.client.start(ProcessRequest(command: "run"))
      #expect(session.pid == FakeProcesses.pid)
      #expect(
        try await collect(session) == [
          .started(pid: 42), .output(.standardOutput, ByteBuffer(bytes: 0...255)),
          .output(.standardError, ByteBuffer(bytes: [1])),
          .exited(ProcessExit(exitCode: 3)),
        ])
    }
  }

  @Test(
    "the connection of an ended process is reused, even if the consumer stops reading at its exit"
  )
  func connectionReuse() async throws {
    try await FakeGuestAgent.run { guest in
      let runs = 30
      for _ in 0..<runs {
        let session = try await guest.client.start(ProcessRequest(command: "run"))
        for try await event in session.events {
          if case .exited = event { break }
        }
        await session.detach(killing: false)
      }
      let connections = Set(guest.record.sourcePorts.withLock { $0 })
      #expect(guest.record.sourcePorts.withLock { $0.count } == runs)
      #expect(
        connections.count <= runs / 3,
        "a start before the last response was read to its end needs another connection")
    }
  }

  @Test("all fields of a process request reach the guest")
  func request() async throws {
    try await FakeGuestAgent.run { guest in
      let request = ProcessRequest(
        command: "run", arguments: ["a", "b"], environment: ["K": "v"], workingDirectory: "/w", user: "ana",
        hasStandardInput: true, terminal: TerminalSize(columns: 80, rows: 24), tag: "t", timeout: .milliseconds(61_500))
      _ = try await collect(guest.client.start(request))
      let (start, headers) = try #require(guest.record.starts.withLock { $0.first })
      #expect(start.process.cmd == "run")
      #expect(start.process.args == ["a", "b"])
      #expect(start.process.envs == ["K": "v"])
      #expect(start.process.cwd == "/w")
      #expect(start.pty.size.cols == 80 && start.pty.size.rows == 24)
      #expect(start.tag == "t")
      #expect(start.stdin)
      #expect(headers[.authorization] == "Basic YW5hOg==")
      #expect(HTTPField.Name("Connect-Timeout-Ms").flatMap { headers[$0] } == "61500")
      #expect(HTTPField.Name("Keepalive-Ping-Interval").flatMap { headers[$0] } == "20")
      #expect(HTTPField.Name("X-Access-Token").flatMap { headers[$0] } == "secret")
    }
  }

  @Test("a process ended by a signal has the shell's exit code, and a time-out is reported")
  func killed() async throws {
    try await FakeGuestAgent.run { guest in
      let events = try await collect(guest.client.start(ProcessRequest(command: "killed")))
      #expect(events.last == .exited(ProcessExit(exitCode: 137, signal: 9, isTimeout: true)))
    }
  }

  @Test("a stream that ends with deadline_exceeded reports that the time-out killed the process")
  func deadlineWithoutEnd() async throws {
    try await FakeGuestAgent.run { guest in
      let events = try await collect(guest.client.start(ProcessRequest(command: "late", timeout: .seconds(1))))
      #expect(events.last == .exited(ProcessExit(exitCode: 137, signal: 9, isTimeout: true)))
    }
  }

  @Test(
    "tenants get the guest's message for refused requests, but not for faults of the guest",
    arguments: [
      ("refuse", ErrorCode.invalidRequest, "command 'refuse' not found"),
      ("nobody", .invalidRequest, "invalid username: 'nobody'"),
      ("broken", .agentError, "the sandbox's guest agent did not respond"),
    ])
  func refusals(command: String, code: ErrorCode, message: String) async throws {
    try await FakeGuestAgent.run { guest in
      let error = await #expect(throws: MartletError.self) {
        try await guest.client.start(ProcessRequest(command: command, user: "nobody"))
      }
      #expect(Self.hasPrefix(error, code, message))
    }
  }

  @Test("a stream that ends without an end event throws")
  func vanished() async throws {
    try await FakeGuestAgent.run { guest in
      let session = try await guest.client.start(ProcessRequest(command: "vanish"))
      let error = await #expect(throws: MartletError.self) { try await collect(session) }
      #expect(error?.code == .agentError)
    }
  }

  @Test("a stream fails when the guest is silent, but not while it sends keep-alives")
  func idleLimit() async throws {
    var limits = GuestLimits()
    limits.streamIdle = .seconds(1)
    try await FakeGuestAgent.run(limits: limits) { guest in
      let silent = try await guest.client.start(ProcessRequest(command: "idle"))
      let error = await #expect(throws: MartletError.self) { try await collect(silent) }
      #expect(error?.code == .agentError)
      let alive = try await guest.client.start(ProcessRequest(command: "ping"))
      #expect(try await collect(alive).last == .exited(ProcessExit(exitCode: 0)))
    }
  }

  @Test("input has no time limit, and input to a closed process throws not_found")
  func lateInput() async throws {
    var limits = GuestLimits()
    limits.call = .milliseconds(300)
    try await FakeGuestAgent.run(limits: limits) { guest in
      let session = try await guest.client.start(ProcessRequest(command: "idle", hasStandardInput: true))
      guest.record.inputDelay.withLock { $0 = .seconds(1) }
      try await session.write(ByteBuffer(string: "late"))
      #expect(guest.record.inputs.withLock { $0.count } == 1)
      guest.record.closesInput.withLock { $0 = true }
      let error = await #expect(throws: MartletError.self) { try await session.write(ByteBuffer(string: "x")) }
      #expect(error?.code == .notFound)
      await session.detach(killing: true)
    }
  }

  @Test("a consumer slower than the idle limit gets every byte and slows the guest down")
  func backPressure() async throws {
    var limits = GuestLimits()
    limits.streamIdle = .seconds(2)
    try await FakeGuestAgent.run(limits: limits) { guest in
      let session = try await guest.client.start(ProcessRequest(command: "flood"))
      var bytes = 0
      for try await event in session.events {
        guard case .output(_, let piece) = event else { continue }
        if bytes == 0 {
          try await Task.sleep(for: .seconds(4))
          #expect(guest.record.written.withLock { $0 } < 1_000)
        }
        bytes += piece.readableBytes
      }
      #expect(bytes == 2_000 * 32_768)
    }
  }

  @Test(
    "detach closes the stream; killing first signals the process group, even in a cancelled task",
    arguments: [false, true])
  func detach(killing: Bool) async throws {
    try await FakeGuestAgent.run { guest in
      let session = try await guest.client.start(ProcessRequest(command: "idle"))
      let task = Task {
        while !Task.isCancelled { await Task.yield() }
        await session.detach(killing: killing)
        await session.detach(killing: true)
      }
      task.cancel()
      await task.value
      let signals = guest.record.signals.withLock { $0 }
      let expected: [Process_Signal] = killing ? [.sigkill] : []
      #expect(signals.map(\.signal) == expected)
      #expect(signals.allSatisfy { $0.processGroup && $0.process.pid == FakeProcesses.pid })
      #expect(await eventually { guest.record.ended.withLock { $0 } == 1 })
    }
  }

  @Test("a cancelled start kills the process that it has started")
  func cancelledStart() async throws {
    try await FakeGuestAgent.run { guest in
      let task = Task {
        while !Task.isCancelled { await Task.yield() }
        return try await guest.client.start(ProcessRequest(command: "idle"))
      }
      task.cancel()
      let error = await #expect(throws: MartletError.self) { try await task.value }
      #expect(error?.code == .canceled)
      #expect(guest.record.signals.withLock { $0.map(\.signal) } == [.sigkill])
    }
  }

  @Test("releasing a session closes its stream")
  func dropped() async throws {
    try await FakeGuestAgent.run { guest in
      _ = try await guest.client.start(ProcessRequest(command: "idle"))
      #expect(await eventually { guest.record.ended.withLock { $0 } == 1 })
    }
  }

  @Test("input goes to the process's terminal if it has one; long input is split")
  func input() async throws {
    try await FakeGuestAgent.run { guest in
      let plain = try await guest.client.start(ProcessRequest(command: "idle", hasStandardInput: true))
      try await plain.write(ByteBuffer(repeating: 1, count: 600_000))
      #expect(guest.record.inputs.withLock { $0.map(\.stdin.count) } == [262_144, 262_144, 75_712])
      let terminal = try await guest.client.start(
        ProcessRequest(command: "idle", hasStandardInput: true, terminal: TerminalSize(columns: 1, rows: 1)))
      try await terminal.write(ByteBuffer(string: "ls"))
      try await terminal.closeStandardInput()
      try await terminal.resize(TerminalSize(columns: 100, rows: 30))
      #expect(guest.record.inputs.withLock { $0.suffix(2).map { Array($0.pty) } } == [Array("ls".utf8), [4]])
      try await plain.closeStandardInput()
      try await plain.signal(15)
      #expect(guest.record.signals.withLock { $0.map(\.signal) } == [.sigterm])
    }
  }

  @Test("attach returns the live stream; an unknown process is not found")
  func attach() async throws {
    try await FakeGuestAgent.run { guest in
      let session = try await guest.client.attach(.tag("t"))
      #expect(
        try await collect(session) == [
          .started(pid: 42), .output(.terminal, ByteBuffer(bytes: [0x24])), .exited(ProcessExit(exitCode: 0)),
        ])
      let error = await #expect(throws: MartletError.self) { try await guest.client.attach(.pid(7)) }
      #expect(Self.hasPrefix(error, .notFound, "process with pid 7 not found"))
    }
  }

  @Test("running processes are listed; signals out of range are refused without a call")
  func list() async throws {
    try await FakeGuestAgent.run { guest in
      let processes = try await guest.client.listProcesses()
      #expect(
        processes == [
          GuestProcess(pid: 42, tag: "t", command: "sleep", arguments: ["1"], workingDirectory: "/")
        ])
      let error = await #expect(throws: MartletError.self) { try await guest.client.signal(.pid(42), signal: 65) }
      #expect(error?.code == .invalidRequest)
      let unknown = await #expect(throws: MartletError.self) { try await guest.client.signal(.pid(1), signal: 9) }
      #expect(unknown?.code == .notFound)
    }
  }
}

/// Polls until `condition` holds, for 5 s at most.
func eventually(_ condition: () -> Bool) async -> Bool {
  for _ in 0..<500 {
    if condition() { return true }
    try? await Task.sleep(for: .milliseconds(10))
  }
  return false
}
