import Connect
import ConnectClient
import ConnectServer
import Envd
import FoundationEssentials
import Glibc
import LinuxSystem
import NIOCore
import Protos
import SwiftProtobuf
import SystemPackage
import Testing

@Suite(.serialized, .timeLimit(.minutes(1))) struct ProcessOutputTests {
  @Test("a command's output and end arrive, over both codecs", arguments: [ConnectCodec.proto, .json])
  func run(codec: ConnectCodec) async throws {
    try await RunningAgent.with(codec: codec) { agent in
      let result = try await agent.run("/bin/sh", ["-c", "echo out; echo err >&2; exit 3"])
      #expect(result.pid != nil)
      #expect(result.text == "out\n")
      #expect(String(decoding: result.standardError, as: UTF8.self) == "err\n")
      #expect(result.end?.exitCode == 3)
      #expect(result.end?.exited == true)
      #expect(result.end?.status == "exit status 3")
      #expect(result.error == nil)
    }
  }

  @Test("all 256 byte values pass unchanged")
  func bytes() async throws {
    try await RunningAgent.with { agent in
      let result = try await agent.run(
        "/bin/bash", ["-c", #"for i in {0..255}; do printf "\\x$(printf %x $i)"; done"#])
      #expect(result.standardOutput == Data((0...255).map { UInt8($0) }))
    }
  }

  @Test("a slow reader gets all of a large output, and the process waits for it")
  func slowReader() async throws {
    let total = 32 * 1024 * 1024
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/sh", ["-c", "head -c \(total) /dev/zero; echo done >&2"])
      var received = 0
      var sawDone = false
      var iterator = events.makeAsyncIterator()
      let pid = try #require(try await iterator.next()).event.start.pid
      try await Task.sleep(for: .milliseconds(500))
      #expect(isAlive(pid), "its output does not fit into the queues, so it must be waiting")
      while let event = try await iterator.next()?.event {
        received += event.data.stdout.count
        #expect(event.data.stdout.count <= 32 * 1024)
        if !event.data.stderr.isEmpty { sawDone = true }
      }
      #expect(received == total)
      #expect(sawDone)
    }
  }

  @Test("two subscribers get the same bytes from their subscription on")
  func twoSubscribers() async throws {
    try await RunningAgent.with { agent in
      let first = try await agent.start("/bin/sh", ["-c", "read x; seq 1 20000"]) { $0.stdin = true }
      var iterator = first.makeAsyncIterator()
      let pid = try #require(try await iterator.next()).event.start.pid
      let second = try await agent.attach(pid)
      var secondIterator = second.makeAsyncIterator()
      #expect(try await secondIterator.next()?.event.start.pid == pid)
      try await agent.sendInput(pid, "go\n")
      var outputs = [Data(), Data()]
      while let event = try await iterator.next()?.event { outputs[0] += event.data.stdout }
      while let event = try await secondIterator.next()?.event { outputs[1] += event.data.stdout }
      #expect(outputs[0] == outputs[1])
      #expect(outputs[0].count == 108_894)
    }
  }

  @Test("a client that attaches after the end gets start and end, but no output")
  func lateConnect() async throws {
    try await RunningAgent.with { agent in
      let result = try await agent.run("/bin/sh", ["-c", "echo lost; exit 5"])
      let late = try await Transcript(try await agent.attach(try #require(result.pid)))
      #expect(late.pid == result.pid)
      #expect(late.end?.exitCode == 5)
      #expect(late.standardOutput.isEmpty)
    }
  }

  @Test("the end follows the output of a grandchild that outlives the process")
  func grandchild() async throws {
    try await RunningAgent.with { agent in
      let result = try await agent.run("/bin/sh", ["-c", "(sleep 0.3; echo late) & echo early"])
      #expect(result.text == "early\nlate\n")
    }
  }

  @Test("finished commands leave no zombie, no descriptor and no registered process")
  func nothingLeft() async throws {
    try await RunningAgent.with { agent in
      _ = try await agent.run("/bin/true")
      let before = try openDescriptors()
      for _ in 0..<50 { _ = try await agent.run("/bin/sh", ["-c", "echo x"]) { $0.stdin = true } }
      _ = try await agent.run("/bin/sh", ["-c", "tty"]) { $0.pty = Process_PTY() }
      _ = try? await agent.run("/no/such/program")
      // The client's pool may keep a few more connections; a leak would add one descriptor for each of the fifty runs.
      try await eventually("the descriptors are as before") { try openDescriptors() <= before + 8 }
      #expect(agent.agent.reaper.count == 0)
      #expect(agent.agent.registry.running.isEmpty)
      #expect(agent.agent.registry.endedCount >= 50)
      // Other suites have children too, so a zombie may exist for a moment.
      try await eventually("no zombie is left") { try zombies() == 0 }
    }
  }

  @Test("forty concurrent commands all end")
  func concurrency() async throws {
    try await RunningAgent.with { agent in
      try await withThrowingTaskGroup(of: Transcript.self) { group in
        for index in 0..<40 {
          group.addTask { try await agent.run("/bin/sh", ["-c", "echo \(index); exit \(index)"]) }
        }
        var codes: Set<Int32> = []
        for try await result in group {
          #expect(result.text == "\(result.end?.exitCode ?? -1)\n")
          codes.insert(result.end?.exitCode ?? -1)
        }
        #expect(codes == Set(0..<40))
      }
    }
  }

  @Test("keep-alives are sent while a process is silent")
  func keepAlive() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/sleep", ["2.5"], headers: [("Keepalive-Ping-Interval", "1")])
      var keepAlives = 0
      for try await response in events {
        if case .keepalive? = response.event.event { keepAlives += 1 }
      }
      #expect(keepAlives == 2)
    }
  }
}
