import CommandLine
import Composition
import Foundation
import Glibc
import HostAgent
import Model
import Snapshots

// A server that kills itself when its host agent or its snapshot store reaches the moment named by CRASH_AT: `making-network-before`,
// `store-generationRenamed` … It is the real server otherwise. Its guest agent and images are those of the release build.

// Its pagers are this program, too.
if let code = HiddenCommands.run(Array(CommandLine.arguments.dropFirst())) { exit(code) }

let point = CrashPoint(ProcessInfo.processInfo.environment["CRASH_AT"])
unsetenv("CRASH_AT")

let observer = StepObserver { point.reached($0.name) }
let storeObserver = SnapshotObserver { point.reached("store-\($0.rawValue)") }

var services = LocalServices.real
services.up = { try await AllInOneServer($0, observer: observer, storeObserver: storeObserver).run() }
exit(await runCommandLine(Array(CommandLine.arguments.dropFirst()), local: services))
