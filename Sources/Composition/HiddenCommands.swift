import Pager

/// Commands that martlet gives to itself. They skip the command line's parser: the start of a VM waits for them.
package enum HiddenCommands {
  /// - Parameter words: without the program's name.
  /// - Returns: the exit code of the process, nil when this is a command for people.
  package static func run(_ words: [String]) -> Int32? {
    guard words.first == PagerArguments.command else { return nil }
    return PagerProgram.run(words)
  }
}
