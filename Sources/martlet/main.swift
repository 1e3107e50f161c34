import CommandLine
import Composition
import Glibc

exit(await runCommandLine(Array(CommandLine.arguments.dropFirst()), local: .real))
