import APIClient
import Glibc
import LinuxSystem
import Model

/// Copies files from this machine to a sandbox.
///
/// Links to files are copied as the files they name; links to directories, sockets and devices are skipped with a
/// warning.
struct CopyUpload: Sendable {
  /// Maximum nesting depth of directories.
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

  /// The target path as in cp(1): inside the destination if that is a directory, else the destination itself. The path
  /// is absolute if the destination exists.
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
      throw APIError(.invalidInput, "'\(destination)' is a directory; give the name of a file for standard input")
    }
    // Commands treat a closed standard input as empty, but a copy must not create an empty file from it.
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
    guard depth < Self.maximumDepth else {
      throw APIError(
        .invalidInput, "\(source) has more than \(Self.maximumDepth) levels of directories; copy an archive instead")
    }
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

  /// The kind of a path; a symbolic link to a regular file counts as that file.
  private func kind(of path: String) async throws -> FileStatus.Kind? {
    guard let status = try await LocalFile.status(path, followingLinks: false) else { return nil }
    guard status.kind == .link else { return status.kind }
    return try await LocalFile.status(path, followingLinks: true)?.kind == .file ? .file : .link
  }

  private func uploadFile(_ source: String, to target: String, modes: inout RemoteModes) async throws {
    let file = try await LocalFile.open(source, flags: O_RDONLY | O_NOCTTY)
    do {
      let status = try await file.status()
      // Pipes and devices have no meaningful size.
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

/// Permissions that differ from the server's default for new files; set in a few calls after all files are copied.
struct RemoteModes {
  /// Number of paths per call; well below the limit on arguments.
  private static let batch = 500
  private static let usualFile: UInt32 = 0o644
  private static let usualDirectory: UInt32 = 0o755

  private(set) var pathsByMode: [UInt32: [String]] = [:]

  mutating func note(_ path: String, mode: UInt32, isDirectory: Bool) {
    let bits = mode & 0o777
    guard bits != (isDirectory ? Self.usualDirectory : Self.usualFile) else { return }
    pathsByMode[bits, default: []].append(path)
  }

  /// Sets the permissions in the guest. If the guest has no chmod, the files stay and a warning is printed.
  func apply(client: APIClient, sandbox: SandboxID, console: Console) async throws {
    for (mode, paths) in pathsByMode.sorted(by: { $0.key < $1.key }) {
      // Deepest path first, because a directory without its x bit would hide the paths below it.
      let ordered = paths.sorted(by: >)
      for start in stride(from: 0, to: ordered.count, by: Self.batch) {
        let slice = Array(ordered[start..<min(start + Self.batch, ordered.count)])
        do {
          let result = try await client.exec("chmod", [String(mode, radix: 8), "--"] + slice, in: sandbox)
          if result.exitCode != 0 {
            await console.complain("could not set all permissions: \(result.stderr)")
          }
        } catch let error as APIError {
          await console.complain("could not set permissions: \(error.message)")
        }
      }
    }
  }
}
