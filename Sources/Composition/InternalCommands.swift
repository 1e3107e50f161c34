import Pager

/// Commands that martlet runs as child processes of itself. They bypass the command-line parser, because its start-up
/// time would delay the start of a VM.
package enum InternalCommands {
  /// - Parameter arguments: without the program's name.
  /// - Returns: the exit code of the process; nil if the arguments are not an internal command.
  package static func run(_ arguments: [String]) -> Int32? {
    guard let command = arguments.first, PagerProgram.commands.contains(command) else { return nil }
    return PagerProgram.run(arguments)
  }
}
