import CLinux
import Glibc
package import LinuxSystem
package import Protos
import SystemPackage

/// All decisions about a process before its start: derived from the request, the user and the guest's identity.
package struct LaunchPlan: Sendable, Equatable {
  package enum StandardInput: Sendable, Equatable {
    case pipe
    /// /dev/null
    case nothing
  }

  package var executable: String
  package var arguments: [String]
  package var environment: [String: String]
  package var workingDirectory: String
  package var credentials: SpawnRequest.Credentials
  package var standardInput: StandardInput
  /// The terminal's size if the process gets a terminal.
  package var terminal: WindowSize?
  package var description: ManagedProcess.Description

  private static let maximumTagBytes = 256

  /// Makes the plan. Accesses the file system for the directory and the program, so it must not run on the cooperative
  /// pool.
  package static func make(
    _ request: Process_StartRequest, user: GuestUser, guest: GuestState.Identity, agentPath: String?
  ) throws(ProcessServiceError) -> LaunchPlan {
    let config = request.process
    guard !config.args.contains(where: { $0.utf8.contains(0) }) else {
      throw .invalidRequest("an argument contains a NUL byte")
    }
    guard request.tag.utf8.count <= maximumTagBytes else {
      throw .invalidRequest("tag is longer than \(maximumTagBytes) bytes")
    }
    let environment = try ProcessEnvironment.build(
      agentPath: agentPath, user: user, guest: guest, request: config.envs, hasTerminal: request.hasPty)
    let directory = try workingDirectory(requested: config.hasCwd ? config.cwd : "", user: user, guest: guest)
    let executable = try ExecutableLookup.find(
      config.cmd, searchPath: environment["PATH"] ?? ProcessEnvironment.standardPath, directory: directory)
    let wantsInput = !request.hasStdin || request.stdin
    return LaunchPlan(
      executable: executable, arguments: config.args, environment: environment, workingDirectory: directory,
      credentials: SpawnRequest.Credentials(uid: user.uid, gid: user.gid, groups: user.groups),
      standardInput: wantsInput ? .pipe : .nothing,
      terminal: request.hasPty ? WindowSize(columns: request.pty.size.cols, rows: request.pty.size.rows) : nil,
      description: ManagedProcess.Description(
        command: config.cmd, arguments: config.args, environment: config.envs,
        workingDirectory: config.hasCwd ? config.cwd : nil, tag: request.hasTag ? request.tag : nil))
  }

  /// The requested directory, which must exist. If the request names none: the default directory or the user's home, or
  /// `/` if those are missing, like login(1).
  static func workingDirectory(
    requested: String, user: GuestUser, guest: GuestState.Identity
  ) throws(ProcessServiceError) -> String {
    guard !requested.utf8.contains(0) else { throw .invalidRequest("cwd contains a NUL byte") }
    guard requested.isEmpty else { return try existing(expand(requested, home: user.home), named: requested) }
    for candidate in [guest.defaultWorkdir.map { expand($0, home: user.home) }, user.home] {
      if let candidate, let directory = try? existing(candidate, named: candidate) { return directory }
    }
    return "/"
  }

  private static func expand(_ path: String, home: String) -> String {
    if path == "~" || path.isEmpty { return home }
    if path.hasPrefix("~/") { return ExecutableLookup.absolute(String(path.dropFirst(2)), in: home) }
    return ExecutableLookup.absolute(path, in: home)
  }

  private static func existing(_ path: String, named name: String) throws(ProcessServiceError) -> String {
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw errno == ENOTDIR ? .workingDirectoryNotADirectory(name) : .workingDirectoryMissing(name)
    }
    guard status.st_mode & S_IFMT == S_IFDIR else { throw .workingDirectoryNotADirectory(name) }
    return path
  }
}

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

/// Finds programs like a shell does. Source: execvp(3).
package enum ExecutableLookup {
  /// - Parameters:
  ///   - command: a path if it contains a slash, otherwise a name that is looked up in `searchPath`.
  ///   - directory: the base of relative paths and of relative entries of the search path.
  /// - Returns: an absolute path.
  /// - Throws: `commandNotFound`, or `commandNotExecutable` when only files without execute permission were found.
  package static func find(
    _ command: String, searchPath: String, directory: String
  ) throws(ProcessServiceError) -> String {
    guard !command.isEmpty, !command.utf8.contains(0) else {
      throw .invalidRequest("cmd must be the name or path of a program")
    }
    let candidates =
      command.contains("/")
      ? [absolute(command, in: directory)]
      : searchPath.split(separator: ":", omittingEmptySubsequences: false).map {
        absolute("\($0.isEmpty ? "." : $0)/\(command)", in: directory)
      }
    var foundFile = false
    for candidate in candidates {
      var status = stat()
      guard stat(candidate, &status) == 0 else { continue }
      if status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o111 != 0 { return candidate }
      foundFile = true
    }
    throw foundFile ? .commandNotExecutable(command) : .commandNotFound(command)
  }

  static func absolute(_ path: String, in directory: String) -> String {
    path.hasPrefix("/") ? path : "\(directory == "/" ? "" : directory)/\(path)"
  }
}

/// Size of a terminal in characters. Never 0 in either direction.
package struct WindowSize: Sendable, Equatable {
  package static let standard = WindowSize(columns: 80, rows: 24)

  package let columns: UInt16
  package let rows: UInt16

  /// 0 becomes the standard value; values that are too large become the largest possible value.
  package init(columns: UInt32, rows: UInt32) {
    self.columns = columns == 0 ? 80 : UInt16(clamping: columns)
    self.rows = rows == 0 ? 24 : UInt16(clamping: rows)
  }

  func apply(to terminal: OwnedDescriptor) throws(SystemError) {
    guard clinux_set_window_size(terminal.rawValue, columns, rows) == 0 else {
      throw SystemError.current("ioctl(TIOCSWINSZ)")
    }
  }
}
