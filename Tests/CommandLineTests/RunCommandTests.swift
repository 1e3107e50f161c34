import APIClient
import ArgumentParser
import Concurrency
import FakeServer
import Glibc
import Model
import Testing

@testable import CommandLine

@Suite("martlet run and exec", .timeLimit(.minutes(1)))
struct RunCommandTests {
  @Test("input, output and exit code pass through, and the sandbox is destroyed")
  func echo() async throws {
    let server = FakeMartlet()
    let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0) }
    let outcome = try await Invocation.run(["run", "--", "cat"], input: bytes, on: server)
    let isUnchanged = outcome.output == bytes
    #expect(outcome.code == 0 && isUnchanged && outcome.errors.isEmpty)
    #expect(server.state.withLock { $0.sandboxes.isEmpty && $0.destroyed.count == 1 })
  }

  @Test("all 256 byte values reach standard output unchanged")
  func allBytes() async throws {
    #expect(
      try await Invocation.run(["run", "--", "all-bytes"], on: FakeMartlet()).output == (0...255).map { UInt8($0) })
  }

  @Test("the exit code is that of the command, and the sandbox is destroyed", arguments: [1, 7, 255])
  func exitCode(_ code: Int) async throws {
    let server = FakeMartlet()
    #expect(try await Invocation.run(["run", "--", "exit", "\(code)"], on: server).code == Int32(code))
    #expect(server.state.withLock { $0.destroyed.count } == 1)
  }

  @Test("a broken connection is an error and leaves no sandbox")
  func broken() async throws {
    let server = FakeMartlet()
    let outcome = try await Invocation.run(["run", "--", "break"], on: server)
    #expect(outcome.code == 74)
    #expect(outcome.errors.contains("broke") || outcome.errors.contains("closed the connection"))
    #expect(server.state.withLock { $0.destroyed.count } == 1)
  }

  @Test("an error of the server keeps its message and has its exit code")
  func serverError() async throws {
    let outcome = try await Invocation.run(["run", "--", "fail"], on: FakeMartlet())
    #expect(outcome.code == 69)
    #expect(outcome.errors == "martlet: the guest agent does not respond\n")
  }

  @Test("standard output and standard error are separate")
  func standardError() async throws {
    let outcome = try await Invocation.run(["run", "--", "stderr", "oops"], on: FakeMartlet())
    #expect(outcome.output.isEmpty && outcome.errors == "oops")
  }

  @Test("environment variables are given by value or copied from the local environment")
  func environment() async throws {
    let server = FakeMartlet()
    let given = try await Invocation.run(["run", "-e", "A=1=2", "--", "environment", "A"], on: server)
    let taken = try await Invocation.run(
      ["run", "-e", "B", "--", "environment", "B"], on: server, environment: ["B": "ours"])
    #expect(given.text == "1=2")
    #expect(taken.text == "ours")
  }

  @Test("a terminal without a local terminal has the default size")
  func terminal() async throws {
    #expect(try await Invocation.run(["run", "--tty", "--", "size"], on: FakeMartlet()).text == "80x24")
  }

  @Test("exec does not destroy the sandbox")
  func exec() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    let outcome = try await Invocation.run(["exec", id, "--", "echo", "a", "b"], on: server)
    #expect(outcome.text == "a b\n")
    #expect(server.state.withLock { $0.sandboxes } == [id])
  }

  @Test("a detached command prints its process id")
  func detached() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    #expect(try await Invocation.run(["exec", id, "--detach", "--tag", "t", "--", "httpd"], on: server).text == "41\n")
    let json = try await Invocation.run(["exec", id, "--detach", "--json", "--", "httpd"], on: server).text
    #expect(json.contains("\"pid\" : 41"))
  }
}

@Suite("Signals during a command", .timeLimit(.minutes(1)))
struct ExecutionSignalTests {
  /// Runs a command of the fake guest; the test sends signals after its first output.
  private func run(
    _ command: String, signals sent: [Int32], input bytes: [UInt8] = []
  ) async throws -> (code: Int32, controls: [String]) {
    let server = FakeMartlet()
    let id = server.addSandbox()
    let code = try await Invocation.inDirectory { directory in
      try await server.serving { url in
        let signals = try SignalWatcher([])
        let context = CommandContext(
          environment: ["MARTLET_URL": url, "MARTLET_API_KEY": FakeMartlet.apiKey], workingDirectory: directory,
          input: 0, output: 1,
          error: 2)
        return try await CommandContext.$current.withValue(context) {
          try await ConnectionOptions.parse([]).withClient { client in
            let quiet = open("/dev/null", O_RDWR | O_CLOEXEC)
            defer { close(quiet) }
            var ends: [Int32] = [-1, -1]
            try #require(pipe(&ends) == 0)
            defer { for end in ends { close(end) } }
            let input = try InputReader(ends[0])
            if !bytes.isEmpty { _ = write(ends[1], bytes, bytes.count) }
            let console = Console(output: quiet, error: quiet, allowsColor: false)
            let execution = Execution(
              client: client, sandbox: try #require(SandboxID(wire: id)), console: console, input: input,
              signals: signals)
            let injection = Task {
              while !bytes.isEmpty, !server.state.withLock({ $0.isDeaf }) {
                try await Task.sleep(for: .milliseconds(2))
              }
              for signal in sent { signals.inject(signal) }
            }
            let code = try await execution.run(.init(command: command))
            try await injection.value
            await input.close()
            return code
          }
        }
      }
    }
    return (code, server.state.withLock { $0.controls })
  }

  @Test(
    "a signal is forwarded and 128 + n is the exit code",
    arguments: [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")])
  func forwarded(_ signal: Int32, _ name: String) async throws {
    let result = try await run("wait", signals: [signal])
    #expect(result.code == 128 + signal)
    #expect(result.controls == [#"{"signal":"\#(name)","type":"signal"}"#])
  }

  @Test("a signal is delivered before input that the command does not read")
  func overtaking() async throws {
    let result = try await run("deaf", signals: [SIGTERM], input: [UInt8](repeating: 1, count: 60_000))
    #expect(result.code == 128 + SIGTERM)
    // On a busy machine the grace period may pass before the exit is reported.
    #expect(result.controls.first == "99 SIGTERM")
  }

  @Test("a second interrupt kills a command that ignores the first")
  func killed() async throws {
    let result = try await run("stubborn", signals: [SIGINT, SIGINT])
    #expect(result.code == 128 + SIGKILL)
    #expect(result.controls.map { $0.contains("SIGKILL") } == [false, true])
  }
}

@Suite("Interrupt policy")
struct InterruptPolicyTests {
  private let start = ContinuousClock.now

  @Test("two interrupts far apart are both forwarded, close together they kill")
  func interrupts() {
    var policy = InterruptPolicy()
    #expect(policy.handle(SIGINT, at: start) == .forward("SIGINT", startsGrace: false))
    #expect(policy.handle(SIGINT, at: start + .seconds(3)) == .forward("SIGINT", startsGrace: false))
    #expect(policy.handle(SIGINT, at: start + .seconds(4)) == .kill)
    #expect(policy.handle(SIGINT, at: start + .seconds(5)) == .abandon(SIGINT))
  }

  @Test("SIGTERM is forwarded; after the grace period the command is killed, then abandoned")
  func termination() {
    var policy = InterruptPolicy()
    #expect(policy.handle(SIGTERM, at: start) == .forward("SIGTERM", startsGrace: true))
    #expect(policy.graceExpired() == .kill)
    #expect(policy.graceExpired() == .abandon(SIGTERM))
  }

  @Test("a second SIGTERM kills at once")
  func twice() {
    var policy = InterruptPolicy()
    #expect(policy.handle(SIGHUP, at: start) == .forward("SIGHUP", startsGrace: true))
    #expect(policy.handle(SIGTERM, at: start) == .kill)
  }

  @Test("the exit code of a killed command is 128 + n")
  func exitCodes() {
    #expect(Execution.exitCode(of: .init(exitCode: 137, signal: 9)) == 137)
    #expect(Execution.exitCode(of: .init(exitCode: 3, signal: nil)) == 3)
  }
}

@Suite("Signal watcher", .timeLimit(.minutes(1)))
struct SignalWatcherTests {
  // SIGURG and SIGIO are not used elsewhere in this process, and SIGURG is ignored by default.
  @Test("the watcher receives the process's signals until it is cancelled")
  func delivered() async throws {
    let before = handler(SIGURG)
    let watcher = try SignalWatcher([SIGURG])
    for _ in 0..<3 {
      Glibc.kill(getpid(), SIGURG)
      #expect(await watcher.next() == SIGURG)
    }
    watcher.cancel()
    watcher.cancel()
    #expect(handler(SIGURG) == before)
    #expect(await watcher.next() == nil)
  }

  @Test("after a cancelled wait later signals go to the next wait")
  func laterSteps() async throws {
    let watcher = try SignalWatcher([])
    let console = Console(output: -1, error: -1, allowsColor: false)
    let finished = try await Interruption.completing("waiting", signals: watcher, console: console) { 1 }
    #expect(finished.signal == nil)
    watcher.inject(SIGTERM)
    #expect(await watcher.next() == SIGTERM)
    let waiting = Task { await watcher.next() }
    waiting.cancel()
    #expect(await waiting.value == nil)
    watcher.inject(SIGINT)
    #expect(await watcher.next() == SIGINT)
  }

  @Test("of many unread signals the latest are kept")
  func backlog() async throws {
    let watcher = try SignalWatcher([])
    for number in 1...20 { watcher.inject(Int32(number)) }
    #expect(await watcher.next() == 5)
  }

  private func handler(_ signal: Int32) -> Int {
    var action = sigaction()
    sigaction(signal, nil, &action)
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
  }
}

@Suite("Uninterruptible steps", .timeLimit(.minutes(1)))
struct InterruptionTests {
  private let console = Console(output: -1, error: -1, allowsColor: false)

  @Test("one signal is recorded while the step continues")
  func finishes() async throws {
    let signals = try SignalWatcher([])
    signals.inject(SIGTERM)
    let finished = try await Interruption.completing("waiting", signals: signals, console: console) {
      try await Task.sleep(for: .milliseconds(100))
      return 5
    }
    #expect(finished.result == 5 && finished.signal == SIGTERM)
  }

  @Test("a second signal exits with 128 + n")
  func givesUp() async throws {
    let signals = try SignalWatcher([])
    signals.inject(SIGINT)
    signals.inject(SIGINT)
    await #expect(throws: (any Error).self) {
      try await Interruption.completing("waiting", signals: signals, console: console) {
        try await Task.sleep(for: .seconds(30))
      }
    }
  }

  @Test("an interrupt during the create destroys the sandbox and runs nothing")
  func duringCreate() async throws {
    let server = FakeMartlet()
    server.state.withLock { $0.createDelay = .milliseconds(100) }
    let hasRun = Mutex(false)
    await #expect(throws: (any Error).self) {
      try await server.serving { url in
        let context = CommandContext(
          environment: ["MARTLET_URL": url, "MARTLET_API_KEY": FakeMartlet.apiKey], workingDirectory: "/", input: 0,
          output: -1, error: -1)
        try await CommandContext.$current.withValue(context) {
          try await ConnectionOptions.parse([]).withClient { client in
            let signals = try SignalWatcher([])
            signals.inject(SIGINT)
            _ = try await TemporarySandbox(client: client, console: context.console, signals: signals).run(.init()) {
              _ in
              hasRun.withLock { $0 = true }
              return 0
            }
          }
        }
      }
    }
    #expect(!hasRun.withLock { $0 })
    #expect(server.state.withLock { $0.sandboxes.isEmpty && $0.destroyed.count == 1 })
  }
}
