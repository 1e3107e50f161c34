import CommandLine
import Composition
import Glibc

let words = Array(CommandLine.arguments.dropFirst())
if let code = HiddenCommands.run(words) { exit(code) }
exit(await runCommandLine(words, local: .real))
