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

@Suite(.serialized, .timeLimit(.minutes(1))) struct ProcessStartTests {
  @Test("a command runs as the user of its credentials, with that user's groups only")
  func user() async throws {
    try await RunningAgent.with { agent in
      let result = try await agent.run(
        "/bin/sh", ["-c", "id -u; id -g; id -G; echo $HOME $USER $LOGNAME"], user: "nobody")
      let home = try UserDatabase().user(named: "nobody").home
      #expect(result.text == "65534\n65534\n65534\n\(home) nobody nobody\n")
    }
  }

  @Test("an unknown user is unauthenticated")
  func unknownUser() async throws {
    try await RunningAgent.with { agent in
      let result = try await agent.run("/bin/true", user: "nosuchuser")
      #expect(result.error == ConnectError(.unauthenticated, "invalid username: 'nosuchuser'"))
      #expect(result.pid == nil)
    }
  }

  @Test("missing or forbidden directories and missing commands have their errors")
  func failures() async throws {
    try await RunningAgent.with { agent in
      let missing = try await agent.run("/bin/true") { $0.process.cwd = "/no/such/dir" }
      #expect(missing.error == ConnectError(.invalidArgument, "cwd '/no/such/dir' does not exist"))
      let forbidden = try await agent.run("/bin/true", user: "nobody") { $0.process.cwd = "/root" }
      #expect(forbidden.error?.code == .permissionDenied)
      #expect(try await agent.run("no-such-command").error?.code == .invalidArgument)
      #expect(try await agent.run("/etc/passwd").error?.code == .invalidArgument)
      let long = try await agent.run("/bin/echo", [String(repeating: "x", count: 3_000_000)])
      #expect(long.error?.code == .invalidArgument)
      #expect(agent.agent.reaper.count == 0)
    }
  }

  @Test("a process starts with default signals, no inherited descriptors, its own session, and umask 022")
  func cleanStart() async throws {
    try await RunningAgent.with { agent in
      let status = try await agent.run("/bin/grep", ["-E", "^(SigBlk|SigIgn|Umask)", "/proc/self/status"]).text
      let fields = status.split(separator: "\n").compactMap { $0.split(separator: "\t").last.map(String.init) }
      #expect(fields.first == "0022")
      #expect(fields[1] == "0000000000000000")
      // Signals 32 and 33 belong to the C library, which never resets them; the parent of this test process may ignore
      // them.
      let ignored = try #require(fields.last.flatMap { UInt64($0, radix: 16) })
      #expect(ignored & ~0x1_8000_0000 == 0)
      let descriptors = try await agent.run("/bin/sh", ["-c", "ls /proc/$$/fd | tr '\\n' ' '"])
      #expect(descriptors.text.hasPrefix("0 1 2 "))
      #expect(descriptors.text.split(separator: " ").count <= 4)
      let session = try await agent.run("/bin/sh", ["-c", "cut -d' ' -f5,6 /proc/$$/stat"])
      let pid = try #require(session.pid)
      #expect(session.text == "\(pid) \(pid)\n")
    }
  }

  @Test("the sandbox's environment and directory reach the process")
  func guestState() async throws {
    let state = GuestState(
      .init(defaultUser: "nobody", defaultWorkdir: "/usr", environment: ["A": "sandbox", "B": "1"], sandboxID: "sb-9"))
    try await RunningAgent.with(state: state) { agent in
      let result = try await agent.run("/bin/sh", ["-c", "echo $A $B $E2B_SANDBOX_ID $(pwd) $(id -un)"]) {
        $0.process.envs = ["A": "call"]
      }
      #expect(result.text == "call 1 sb-9 /usr nobody\n")
    }
  }

  @Test("a terminal has the requested size, can be resized, echoes input and ends with its shell")
  func terminal() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/bash", ["--norc", "-i"]) {
        $0.pty.size.cols = 100
        $0.pty.size.rows = 40
        $0.process.envs = ["PS1": "> "]
      }
      async let transcript = Transcript(events)
      try await eventually("it is listed") { try await !agent.list().isEmpty }
      let pid = try #require(try await agent.list().first).pid
      try await agent.sendInput(pid, "stty size; tty\n", terminal: true)
      try await Task.sleep(for: .milliseconds(300))
      let update = Process_UpdateRequest.with {
        $0.process.pid = pid
        $0.pty.size.cols = 0
        $0.pty.size.rows = 50
      }
      let _: Process_UpdateResponse = try await agent.connect.unary(ProcessService.name, "Update", update)
      try await agent.sendInput(pid, "stty size; exit 4\n", terminal: true)
      let result = try await transcript
      #expect(result.terminalText.contains("40 100\r\n"))
      #expect(result.terminalText.contains("50 80\r\n"), "0 columns stand for the default")
      #expect(result.terminalText.contains("/dev/pts/"))
      #expect(result.end?.exitCode == 4)
      #expect(result.standardOutput.isEmpty && result.standardError.isEmpty)
    }
  }

  @Test("a terminal's input cannot be closed, and a process without a terminal cannot be resized")
  func terminalMisuse() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/cat") { $0.pty = Process_PTY() }
      var iterator = events.makeAsyncIterator()
      let pid = try #require(try await iterator.next()).event.start.pid
      let close = Process_CloseStdinRequest.with { $0.process.pid = pid }
      await #expect {
        let _: Process_CloseStdinResponse = try await agent.connect.unary(ProcessService.name, "CloseStdin", close)
      } throws: { ($0 as? ConnectError)?.code == .unknown }
      await #expect { try await agent.sendInput(pid, "x") } throws: { ($0 as? ConnectError)?.code == .internalError }
      try await agent.signal(pid, .sigkill)

      let plain = try await agent.start("/bin/sleep", ["30"])
      var plainIterator = plain.makeAsyncIterator()
      let plainPID = try #require(try await plainIterator.next()).event.start.pid
      let update = Process_UpdateRequest.with {
        $0.process.pid = plainPID
        $0.pty.size.cols = 1
      }
      await #expect {
        let _: Process_UpdateResponse = try await agent.connect.unary(ProcessService.name, "Update", update)
      } throws: { ($0 as? ConnectError)?.code == .failedPrecondition }
      try await agent.signal(plainPID, .sigkill)
    }
  }
}
