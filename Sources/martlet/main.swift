import CommandLine
import Composition
import Glibc

let arguments = Array(CommandLine.arguments.dropFirst())
if let code = InternalCommands.run(arguments) { exit(code) }
exit(await runCommandLine(arguments, local: .real))
