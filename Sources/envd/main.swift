// The guest agent. As process 1 it is also the guest's init; otherwise it only serves (development, tests).

import CLinux
import Envd
import Glibc
import LinuxSystem
import Logging
import NIOCore
import NIOPosix

/// Makes malloc return freed memory to the kernel, so that an idle agent stays small (docs/specification.md).
func tuneMemory() {
  mallopt(M_ARENA_MAX, 2)
  mallopt(M_TRIM_THRESHOLD, 128 * 1024)
  mallopt(M_MMAP_THRESHOLD, 128 * 1024)
}

/// Ends the program. For process 1 of a machine this is a kernel panic, which the host notices and reports with the
/// console output.
func fail(_ message: String) -> Never {
  let line = Array("envd: \(message)\n".utf8)
  _ = write(STDERR_FILENO, line, line.count)
  exit(1)
}

func start() throws -> GuestAgent {
  LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
  var logger = Logger(label: "envd")
  logger.logLevel = .notice
  let options = try AgentOptions(arguments: Array(CommandLine.arguments.dropFirst()))
  // As process 1 the signal mask must be set before any other thread exists, so before the event loops.
  let initProcess = getpid() == 1 ? try InitProcess(usesCgroup: options.usesCgroup, logger: logger) : nil
  let configuration =
    try initProcess?.configuration(options)
    ?? GuestAgent.Configuration(host: options.host ?? "127.0.0.1", port: options.port)
  let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  let agent = try GuestAgent(configuration, group: group, logger: logger)
  try initProcess?.watchSignals(of: agent)
  return agent
}

tuneMemory()
NIOSingletons.groupLoopCountSuggestion = 1
NIOSingletons.blockingPoolThreadCountSuggestion = 2
do {
  let agent = try start()
  // Detached, because the main actor never runs: the main thread stays in the loop below. An asynchronous main would
  // end that thread, which process 1 must not do.
  Task.detached {
    do {
      try await agent.run()
      fail("the server has ended")
    } catch {
      fail("\(error)")
    }
  }
} catch {
  fail("\(error)")
}
while true { pause() }
