/// Builds the environment of a user process.
///
/// Later sources win: the agent's PATH, the user's identity, the guest's variables, the request's variables.
package enum ProcessEnvironment {
  /// Search path if no source gives one. Source: Debian's /etc/profile.
  package static let standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

  package static func build(
    agentPath: String?, user: GuestUser, guest: GuestState.Identity, request: [String: String], hasTerminal: Bool
  ) throws(ProcessServiceError) -> [String: String] {
    var variables = [
      "PATH": agentPath.flatMap { $0.isEmpty ? nil : $0 } ?? standardPath,
      "HOME": user.home,
      "USER": user.name,
      "LOGNAME": user.name,
      "SHELL": user.shell,
      "E2B_SANDBOX": "true",
    ]
    if hasTerminal { variables["TERM"] = "xterm-256color" }
    variables["E2B_SANDBOX_ID"] = guest.sandboxID
    variables["E2B_TEMPLATE_ID"] = guest.templateID
    variables.merge(guest.environment) { $1 }
    variables.merge(request) { $1 }
    for (name, value) in variables { try check(name, value) }
    return variables
  }

  private static func check(_ name: String, _ value: String) throws(ProcessServiceError) {
    guard !name.isEmpty, !name.utf8.contains(UInt8(ascii: "=")), !name.utf8.contains(0) else {
      throw .invalidRequest("'\(name.prefix(64))' is not a name for an environment variable")
    }
    guard !value.utf8.contains(0) else {
      throw .invalidRequest("the value of the environment variable '\(name.prefix(64))' contains a NUL byte")
    }
  }
}
