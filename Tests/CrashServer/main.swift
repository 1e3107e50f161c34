import CommandLine
import Composition
import Foundation
import Glibc
import HostAgent
import Model
import Snapshots

// A server that kills itself when its host agent, its snapshot store or its control plane reaches the step named by
// CRASH_AT: `making-network-before`, `store-generationRenamed`, `row-paused-before` … It is the real server otherwise.
// Its guest agent and images are those of the release build.

// Its pagers are processes of this program.
if let code = InternalCommands.run(Array(CommandLine.arguments.dropFirst())) { exit(code) }

let point = CrashPoint(ProcessInfo.processInfo.environment["CRASH_AT"])
unsetenv("CRASH_AT")

let observer = StepObserver { point.reached($0.name) }
let storeObserver = SnapshotObserver { point.reached("store-\($0.rawValue)") }

var services = LocalServices.real
services.up = { options in
  let server = AllInOneServer(options, observer: observer, storeObserver: storeObserver) { database in
    ObservedDatabase(real: database) { point.reached($0) }
  }
  try await server.run()
}
exit(await runCommandLine(Array(CommandLine.arguments.dropFirst()), local: services))
