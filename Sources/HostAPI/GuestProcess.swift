package struct ProcessRequest: Sendable, Equatable {
  package var command: String
  package var arguments: [String]
  package var environment: [String: String]
  package var workingDirectory: String?
  package var user: String?
  /// Whether standard input is a pipe; otherwise it is /dev/null.
  package var hasStandardInput: Bool
  /// If set, the process runs in a terminal, and its standard output and error arrive as `.terminal` output.
  package var terminal: TerminalSize?
  package var tag: String?
  /// The guest agent kills the process after this time; nil or 0 means never.
  package var timeout: Duration?

  package init(
    command: String, arguments: [String] = [], environment: [String: String] = [:], workingDirectory: String? = nil,
    user: String? = nil, hasStandardInput: Bool = false, terminal: TerminalSize? = nil, tag: String? = nil,
    timeout: Duration? = nil
  ) {
    self.command = command
    self.arguments = arguments
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.user = user
    self.hasStandardInput = hasStandardInput
    self.terminal = terminal
    self.tag = tag
    self.timeout = timeout
  }
}

package struct TerminalSize: Sendable, Equatable, Codable {
  package var columns: Int
  package var rows: Int

  package init(columns: Int, rows: Int) {
    self.columns = columns
    self.rows = rows
  }
}

package enum ProcessSelector: Sendable, Equatable {
  case pid(UInt32)
  case tag(String)
}

package struct GuestProcess: Sendable, Equatable {
  package var pid: UInt32
  package var tag: String?
  package var command: String
  package var arguments: [String]
  package var workingDirectory: String?
  package var environment: [String: String]

  package init(
    pid: UInt32, tag: String? = nil, command: String, arguments: [String] = [], workingDirectory: String? = nil,
    environment: [String: String] = [:]
  ) {
    self.pid = pid
    self.tag = tag
    self.command = command
    self.arguments = arguments
    self.workingDirectory = workingDirectory
    self.environment = environment
  }
}
