import Connect
import ConnectClient
import ConnectServer
import Envd
import FoundationEssentials
import LinuxSystem
import NIOCore
import Protos
import SwiftProtobuf
import Testing

@Suite(.serialized, .timeLimit(.minutes(1))) struct ProcessControlTests {
  private func pid(_ iterator: inout RunningAgent.Events.AsyncIterator) async throws -> UInt32 {
    try #require(try await iterator.next()).event.start.pid
  }

  private func end(_ iterator: inout RunningAgent.Events.AsyncIterator) async throws -> Process_ProcessEvent.EndEvent? {
    var end: Process_ProcessEvent.EndEvent?
    while let event = try await iterator.next()?.event {
      if case .end(let value)? = event.event { end = value }
    }
    return end
  }

  @Test("input and its end reach the process in order")
  func standardInput() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/cat") { $0.stdin = true }
      async let transcript = Transcript(events)
      try await eventually("it is listed") { try await !agent.list().isEmpty }
      let pid = try #require(try await agent.list().first).pid
      for index in 0..<20 { try await agent.sendInput(pid, "line \(index)\n") }
      let close = Process_CloseStdinRequest.with { $0.process.pid = pid }
      let _: Process_CloseStdinResponse = try await agent.connect.unary(ProcessService.name, "CloseStdin", close)
      let _: Process_CloseStdinResponse? = try? await agent.connect.unary(ProcessService.name, "CloseStdin", close)
      let result = try await transcript
      #expect(result.text == (0..<20).map { "line \($0)\n" }.joined())
      #expect(result.end?.exitCode == 0)
    }
  }

  @Test("megabytes of streamed input pass with back-pressure")
  func streamInput() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/sh", ["-c", "sleep 0.3; wc -c"]) {
        $0.stdin = true
        $0.tag = "counter"
      }
      async let transcript = Transcript(events)
      try await eventually("it is listed") { try await !agent.list().isEmpty }
      let requests = AsyncStream<Process_StreamInputRequest> { continuation in
        continuation.yield(.with { $0.start.process.tag = "counter" })
        for _ in 0..<64 { continuation.yield(.with { $0.data.input.stdin = Data(repeating: 7, count: 65_536) }) }
        continuation.finish()
      }
      let _: Process_StreamInputResponse = try await agent.connect.clientStream(
        ProcessService.name, "StreamInput", requests)
      let close = Process_CloseStdinRequest.with { $0.process.tag = "counter" }
      let _: Process_CloseStdinResponse = try await agent.connect.unary(ProcessService.name, "CloseStdin", close)
      #expect(try await transcript.text.trimmed == "\(64 * 65_536)")
    }
  }

  @Test("a process without standard input reads end of file, and input is refused")
  func noStandardInput() async throws {
    try await RunningAgent.with { agent in
      #expect(try await agent.run("/bin/cat").end?.exitCode == 0)
      let events = try await agent.start("/bin/sleep", ["30"])
      var iterator = events.makeAsyncIterator()
      let pid = try await pid(&iterator)
      await #expect { try await agent.sendInput(pid, "x") } throws: { ($0 as? ConnectError)?.code == .internalError }
      await #expect { try await agent.sendInput(pid, "x", terminal: true) } throws: {
        ($0 as? ConnectError)?.code == .internalError
      }
      try await agent.signal(pid, .sigkill)
    }
  }

  @Test("SIGKILL ends the stream even while a grandchild holds the pipes, and the pid is unknown afterwards")
  func kill() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/sh", ["-c", "sleep 20 & echo ready; wait"])
      var iterator = events.makeAsyncIterator()
      let pid = try await pid(&iterator)
      #expect(try await iterator.next()?.event.data.stdout == Data("ready\n".utf8))
      let start = ContinuousClock.now
      try await agent.signal(pid, .sigkill)
      let end = try #require(try await end(&iterator))
      #expect(ContinuousClock.now - start < .seconds(15))
      #expect(end.exitCode == -1 && !end.exited && end.status == "signal: killed" && end.signal == 9)
      #expect(!isAlive(pid))
      await #expect { try await agent.signal(pid, .sigkill) } throws: { ($0 as? ConnectError)?.code == .notFound }
    }
  }

  @Test("a signal goes to the process, or to its group if requested")
  func processGroup() async throws {
    try await RunningAgent.with { agent in
      for group in [false, true] {
        let events = try await agent.start("/bin/bash", ["-c", "sleep 30 & echo $!; wait"])
        var iterator = events.makeAsyncIterator()
        let pid = try await pid(&iterator)
        let text = String(decoding: try #require(try await iterator.next()).event.data.stdout, as: UTF8.self)
        let grandchild = try #require(UInt32(text.trimmed))
        try await agent.signal(pid, .sigterm, group: group)
        #expect(try await end(&iterator)?.signal == 15)
        if group {
          try await eventually("the grandchild ends too") { !isAlive(grandchild) }
        } else {
          #expect(isAlive(grandchild))
          _ = try await agent.run("/bin/kill", ["-9", "\(grandchild)"])
        }
      }
    }
  }

  @Test("signals that do not end the process do not end the stream")
  func otherSignals() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start(
        "/bin/bash", ["-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"])
      var iterator = events.makeAsyncIterator()
      let pid = try await pid(&iterator)
      _ = try await iterator.next()
      try await agent.signal(pid, .sigusr1)
      #expect(try await iterator.next()?.event.data.stdout == Data("usr1\n".utf8))
      await #expect { try await agent.signal(pid, .unspecified) } throws: {
        ($0 as? ConnectError)?.code == .unimplemented
      }
      try await agent.signal(pid, .sigkill)
      #expect(try await end(&iterator)?.signal == 9)
    }
  }

  @Test("the time-out kills the process group and ends the stream with deadline_exceeded")
  func timeout() async throws {
    try await RunningAgent.with { agent in
      let start = ContinuousClock.now
      let events = try await agent.start("/bin/sh", ["-c", "echo before; sleep 120"], timeoutMilliseconds: 300)
      let result = try await Transcript(events)
      #expect(result.error?.code == .deadlineExceeded)
      #expect(result.text == "before\n")
      #expect(ContinuousClock.now - start < .seconds(60))
      let pid = try #require(result.pid)
      try await eventually("the process has ended") { !isAlive(pid) }
    }
  }

  @Test("Martlet's client gets an end event that reports the time-out")
  func timeoutForMartletClient() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start(
        "/bin/sleep", ["30"], timeoutMilliseconds: 200, headers: [("Martlet-Client", "1")])
      let result = try await Transcript(events)
      #expect(result.end?.timedOut == true)
      #expect(result.end?.signal == 9)
      #expect(result.error?.code == .deadlineExceeded)
    }
  }

  @Test("a client that disconnects does not end the process, and another one can attach")
  func disconnect() async throws {
    try await RunningAgent.with { agent in
      let reader = Task {
        let events = try await agent.start("/bin/sh", ["-c", "read x; echo got $x"]) {
          $0.stdin = true
          $0.tag = "detached"
        }
        for try await _ in events {}
      }
      try await eventually("it is listed") { try await !agent.list().isEmpty }
      let process = try #require(try await agent.list().first)
      #expect(process.tag == "detached")
      reader.cancel()
      _ = await reader.result
      try await eventually("the subscription has ended") { agent.agent.registry.running.first?.subscriberCount == 0 }
      #expect(isAlive(process.pid))
      let events = try await agent.attach(process.pid)
      try await agent.sendInput(process.pid, "it\n")
      let result = try await Transcript(events)
      #expect(result.text == "got it\n")
      #expect(result.end?.exitCode == 0)
    }
  }

  @Test("requests for processes that do not exist are not_found")
  func unknown() async throws {
    try await RunningAgent.with { agent in
      await #expect { try await agent.signal(4_000_000, .sigkill) } throws: {
        ($0 as? ConnectError) == ConnectError(.notFound, "process with pid 4000000 not found")
      }
      await #expect { try await agent.sendInput(4_000_000, "x") } throws: { ($0 as? ConnectError)?.code == .notFound }
      let attached = try await Transcript(try await agent.attach(4_000_000))
      #expect(attached.error?.code == .notFound)
    }
  }
}
