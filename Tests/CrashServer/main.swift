import CommandLine
import Composition
import Foundation
import Glibc
import HostAgent
import Model

// A server that kills itself, as `kill -9` would, when its host agent reaches the step named by CRASH_AT: `making-network-before` …
// It is the real server otherwise. Its guest agent and images are those of the release build.

// Its pagers are this program, too.
if let code = HiddenCommands.run(Array(CommandLine.arguments.dropFirst())) { exit(code) }

let point = ProcessInfo.processInfo.environment["CRASH_AT"]
unsetenv("CRASH_AT")

let observer = StepObserver { moment in
  if moment.name == point { kill(getpid(), SIGKILL) }
}

var services = LocalServices.real
services.up = { try await AllInOneServer($0, observer: observer).run() }
exit(await runCommandLine(Array(CommandLine.arguments.dropFirst()), local: services))
