package import HostAPI
package import Model

extension ProcessRequest {
  package static let terminalColumns = 1...4_096
  package static let terminalRows = 1...4_096

  /// Checks every field against `Limits`.
  /// - Throws: `invalid_request` with the name of the field.
  package func validate() throws(MartletError) {
    guard !command.isEmpty else { throw MartletError(.invalidRequest, "cmd must not be empty") }
    try Self.check(command, "cmd", upTo: Limits.argumentBytes)
    guard arguments.count <= Limits.argumentCount else {
      throw MartletError(.invalidRequest, "args may have at most \(Limits.argumentCount) entries")
    }
    for argument in arguments { try Self.check(argument, "args", upTo: Limits.argumentBytes) }
    try SandboxSpec.check(environment, "envs", keysAreVariables: true)
    guard totalBytes <= Limits.argumentBytes else {
      throw MartletError(.invalidRequest, "cmd, args and envs may have at most \(Limits.argumentBytes) bytes together")
    }
    if let workingDirectory { try GuestPath.check(workingDirectory, "cwd") }
    if let user { try Self.checkUser(user) }
    if let tag { try Self.checkTag(tag) }
    if let terminal { try Self.check(terminal) }
  }

  /// - Throws: `invalid_request` for a size outside of the permitted range.
  package static func check(_ size: TerminalSize) throws(MartletError) {
    guard terminalColumns.contains(size.columns), terminalRows.contains(size.rows) else {
      throw MartletError(.invalidRequest, "cols and rows of a terminal must be between 1 and 4096")
    }
  }

  package static func checkUser(_ user: String) throws(MartletError) {
    guard !user.isEmpty else { throw MartletError(.invalidRequest, "user must not be empty") }
    try check(user, "user", upTo: Limits.userNameBytes)
  }

  package static func checkTag(_ tag: String) throws(MartletError) {
    guard !tag.isEmpty else { throw MartletError(.invalidRequest, "tag must not be empty") }
    try check(tag, "tag", upTo: Limits.tagBytes)
  }

  private var totalBytes: Int {
    let texts = arguments.reduce(command.utf8.count) { $0 + $1.utf8.count }
    return environment.reduce(texts) { $0 + $1.key.utf8.count + $1.value.utf8.count }
  }

  private static func check(_ text: String, _ field: String, upTo bytes: Int) throws(MartletError) {
    guard text.utf8.count <= bytes else {
      throw MartletError(.invalidRequest, "\(field) may have at most \(bytes) bytes")
    }
    guard !text.utf8.contains(0) else { throw MartletError(.invalidRequest, "\(field) must not contain NUL bytes") }
  }
}

/// Validates paths inside a guest. Only what no kernel accepts is refused: `..` can only lead to another place in the
/// same guest, and no path of a tenant is ever used on the host.
package enum GuestPath {
  /// - Throws: `invalid_request` for an empty or too long path or one with NUL bytes.
  package static func check(_ path: String, _ field: String) throws(MartletError) {
    guard (1...Limits.pathBytes).contains(path.utf8.count) else {
      throw MartletError(.invalidRequest, "\(field) must have 1 to \(Limits.pathBytes) bytes")
    }
    guard !path.utf8.contains(0) else { throw MartletError(.invalidRequest, "\(field) must not contain NUL bytes") }
  }
}
