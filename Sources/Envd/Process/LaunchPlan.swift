import Glibc
package import LinuxSystem
package import Protos

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
