import APIClient
import Glibc
import LinuxSystem
import Model

/// Copies from this machine into a sandbox.
///
/// Links to files are copied as the files they name; links to directories, sockets and devices are skipped with a
/// warning.
struct CopyUpload: Sendable {
  /// Directories inside directories.
  private static let maximumDepth = 256

  let client: APIClient
  let sandbox: SandboxID
  let context: CommandContext
  let progress: CopyProgress

  func run(_ source: CopyPath, to destination: String) async throws {
    var modes = RemoteModes()
    switch source {
    case .remote: throw APIError(.invalidInput, "the source of an upload must be on this machine")
    case .standardStream: try await uploadInput(to: destination)
    case .local(let path):
      guard let status = try await LocalFile.status(path, followingLinks: true) else {
        throw OperatingSystemError(path, code: ENOENT)
      }
      let target = try await target(for: path, destination)
      if status.kind == .directory {
        try await uploadDirectory(path, to: target, depth: 0, modes: &modes)
      } else {
        try await uploadFile(path, to: target, modes: &modes)
      }
    }
    try await modes.apply(client: client, sandbox: sandbox, console: context.console)
  }

  /// As cp(1): into the destination when it is a directory, else under its name. The result is absolute when it exists.
  private func target(for source: String, _ destination: String) async throws -> String {
    let named = CopyPath.baseName(of: context.absolutePath(source))
    do {
      let status = try await client.resolvedStatus(destination, in: sandbox)
      guard status.type == "directory" else { return status.path }
      return named.map { CopyPath.join(status.path, $0) } ?? status.path
    } catch let error as APIError where error.errorCode == .notFound {
      guard destination.hasSuffix("/") else { return destination }
      try await client.makeDirectory(destination, in: sandbox)
      return named.map { CopyPath.join(destination, $0) } ?? destination
    }
  }

  private func uploadInput(to destination: String) async throws {
    guard !destination.hasSuffix("/") else {
      throw APIError(.invalidInput, "'\(destination)' is a directory; standard input needs the name of a file")
    }
    // For a command it would be an input at its end; an empty file is not what somebody asked for.
    guard fcntl(context.input, F_GETFD) >= 0 else {
      throw OperatingSystemError("cannot read standard input", code: EBADF)
    }
    progress.begin("standard input", expectedBytes: nil)
    let input = try InputReader(context.input)
    let chunks = FileChunks(next: { try await input.read(maximumBytes: $0) }, progress: progress)
    do {
      try await client.upload(chunks, sizeBytes: nil, to: destination, in: sandbox)
      await input.close()
    } catch {
      await input.close()
      throw error
    }
  }

  private func uploadDirectory(_ source: String, to target: String, depth: Int, modes: inout RemoteModes) async throws {
    guard depth < Self.maximumDepth else { throw APIError(.invalidInput, "\(source) is nested too deeply") }
    try await client.makeDirectory(target, in: sandbox)
    if let status = try await LocalFile.status(source, followingLinks: true) {
      modes.note(target, mode: status.mode, isDirectory: true)
    }
    for name in try await LocalFile.names(in: source) {
      let path = CopyPath.join(source, name)
      let place = CopyPath.join(target, name)
      switch try await kind(of: path) {
      case .directory: try await uploadDirectory(path, to: place, depth: depth + 1, modes: &modes)
      case .file: try await uploadFile(path, to: place, modes: &modes)
      case .link: await context.console.complain("skipped \(path): it is a link to no regular file")
      case .other: await context.console.complain("skipped \(path): it is no regular file")
      case nil: continue
      }
    }
  }

  /// A link counts as the regular file it names, if it names one.
  private func kind(of path: String) async throws -> FileStatus.Kind? {
    guard let status = try await LocalFile.status(path, followingLinks: false) else { return nil }
    guard status.kind == .link else { return status.kind }
    return try await LocalFile.status(path, followingLinks: true)?.kind == .file ? .file : .link
  }

  private func uploadFile(_ source: String, to target: String, modes: inout RemoteModes) async throws {
    let file = try await LocalFile.open(source, flags: O_RDONLY | O_NOCTTY)
    do {
      let status = try await file.status()
      // Pipes and devices have no size that means anything.
      let size: Int64? = status.kind == .file ? status.sizeBytes : nil
      progress.begin(source, expectedBytes: size)
      let chunks = FileChunks(next: { try await file.read(maximumBytes: $0) }, progress: progress)
      try await client.upload(chunks, sizeBytes: size, to: target, in: sandbox)
      if status.kind == .file { modes.note(target, mode: status.mode, isDirectory: false) }
      try await file.close()
    } catch {
      try? await file.close()
      throw error
    }
  }
}

/// Permissions that differ from what the server gives new files, set in few calls once everything is there.
struct RemoteModes {
  /// Paths in one call; well under the bound on arguments.
  private static let batch = 500
  private static let usualFile: UInt32 = 0o644
  private static let usualDirectory: UInt32 = 0o755

  private(set) var pathsByMode: [UInt32: [String]] = [:]

  mutating func note(_ path: String, mode: UInt32, isDirectory: Bool) {
    let bits = mode & 0o777
    guard bits != (isDirectory ? Self.usualDirectory : Self.usualFile) else { return }
    pathsByMode[bits, default: []].append(path)
  }

  /// A guest without chmod keeps the bytes and loses the modes: that is a warning.
  func apply(client: APIClient, sandbox: SandboxID, console: Console) async throws {
    for (mode, paths) in pathsByMode.sorted(by: { $0.key < $1.key }) {
      // Deepest first: a directory that loses its x bit must not hide what is still to be done.
      let ordered = paths.sorted(by: >)
      for start in stride(from: 0, to: ordered.count, by: Self.batch) {
        let slice = Array(ordered[start..<min(start + Self.batch, ordered.count)])
        do {
          let result = try await client.exec("chmod", [String(mode, radix: 8), "--"] + slice, in: sandbox)
          if result.exitCode != 0 {
            await console.complain("could not set all permissions: \(Table.printable(result.stderr))")
          }
        } catch let error as APIError {
          await console.complain("could not set permissions: \(error.message)")
        }
      }
    }
  }
}
