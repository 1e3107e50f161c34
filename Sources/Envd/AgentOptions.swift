/// Command-line options of the `envd` executable: `--port N` (0: any free port), `--host ADDRESS`, `--no-cgroup` (only
/// as process 1: user processes stay in the root control group).
package struct AgentOptions: Sendable, Equatable {
  package static let standardPort = 49_983

  package var port = AgentOptions.standardPort
  /// nil: all addresses as process 1, only the loopback address otherwise.
  package var host: String?
  package var usesCgroup = true

  package struct ParseError: Error, Sendable, Equatable, CustomStringConvertible {
    package let description: String
  }

  package init() {}

  /// - Parameter arguments: without the program name.
  /// - Throws: `ParseError` with a text for standard error.
  package init(arguments: [String]) throws(ParseError) {
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      switch argument {
      case "--port":
        guard let value = rest.popFirst(), let port = UInt16(value) else {
          throw ParseError(description: "--port needs a number between 0 and 65535")
        }
        self.port = Int(port)
      case "--host":
        guard let value = rest.popFirst(), !value.isEmpty else {
          throw ParseError(description: "--host needs an address")
        }
        host = value
      case "--no-cgroup":
        usesCgroup = false
      default:
        throw ParseError(
          description: "unknown argument '\(argument)'; known are --port N, --host ADDRESS and --no-cgroup")
      }
    }
  }
}
