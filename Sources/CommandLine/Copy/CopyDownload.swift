import APIClient
import Concurrency
import Glibc
import LinuxSystem
import Model
import NIOCore

/// Copies out of a sandbox onto this machine. The guest is hostile: what is written is written under the name that the
/// user typed, and below it, and with a mode that the user's umask permits. A link that exists here is neither followed
/// nor replaced.
///
/// A file appears under its name only when it is complete. Links to files arrive as files; other links are skipped with
/// a warning. Names with control characters or bidirectional marks are skipped, and the copy fails in the end.
struct CopyDownload: Sendable {
  private static let maximumDepth = 256
  private static let defaultMode: UInt32 = 0o644

  let client: APIClient
  let sandbox: SandboxID
  let context: CommandContext
  let progress: CopyProgress
  /// Entries that were left out although they are files or directories.
  private let skipped = Counter()

  func run(_ source: String, to destination: CopyPath) async throws {
    switch destination {
    case .remote: throw APIError(.invalidInput, "the destination of a download must be on this machine")
    case .standardStream: try await downloadToOutput(source)
    case .local(let path):
      let status = try await client.resolvedStatus(source, in: sandbox)
      let (target, isTyped) = try await target(for: source, isDirectory: status.type == "directory", path)
      if status.type == "directory" {
        try await LocalFile.makeDirectory(target, followingLinks: isTyped)
        try await downloadEntries(of: status.path, to: target, depth: 0)
      } else {
        try await downloadFile(status, to: target, isTyped: isTyped)
      }
      let count = skipped.value
      guard count == 0 else {
        throw APIError(.inputOutput, "\(count) entries were not copied because of their names")
      }
    }
  }

  /// - Returns: where to write, and whether the user typed exactly that.
  private func target(
    for source: String, isDirectory: Bool, _ destination: String
  ) async throws -> (path: String, isTyped: Bool) {
    let status = try await LocalFile.status(destination, followingLinks: true)
    if status == nil, destination.hasSuffix("/"), !isDirectory {
      throw OperatingSystemError(destination, code: ENOENT)
    }
    // The name is what the user typed, not what the guest says the file is called. A source that names nothing, such as
    // `ID:.`, goes into the destination itself.
    guard status?.kind == .directory, let name = CopyPath.baseName(of: source) else {
      guard isDirectory || status?.kind != .directory else { throw OperatingSystemError(destination, code: EISDIR) }
      return (destination, true)
    }
    return (CopyPath.join(destination, name), false)
  }

  private func downloadToOutput(_ source: String) async throws {
    progress.begin(source, expectedBytes: nil)
    let console = context.console
    try await client.download(source, in: sandbox) { chunk in
      try await console.write(chunk, to: console.output)
      await progress.add(chunk.readableBytes)
    }
  }

  private func downloadEntries(of source: String, to target: String, depth: Int) async throws {
    guard depth < Self.maximumDepth else {
      throw APIError(
        .badResponse, "\(source) has more than \(Self.maximumDepth) levels of directories; copy an archive instead")
    }
    for entry in try await client.listDirectory(source, in: sandbox) {
      guard CopyPath.isPlainName(entry.name) else { throw Self.unsafe(entry.name) }
      guard CopyPath.isVisibleName(entry.name) else {
        skipped.increment()
        await context.console.complain(
          "skipped \(entry.path): its name has control characters or bidirectional marks")
        continue
      }
      let place = CopyPath.join(target, entry.name)
      switch entry.type {
      case "directory":
        try await LocalFile.makeDirectory(place, followingLinks: false)
        try await downloadEntries(of: CopyPath.join(source, entry.name), to: place, depth: depth + 1)
      case "file": try await downloadFile(entry, to: place)
      case "symlink": try await downloadLink(entry, to: place)
      default: await context.console.complain("skipped \(Table.printable(entry.path)): it is no regular file")
      }
    }
  }

  private func downloadLink(_ entry: FileResource, to target: String) async throws {
    do {
      var file = entry
      // Size and mode are those of the link.
      (file.size, file.mode) = (nil, nil)
      try await downloadFile(file, to: target)
    } catch let error as APIError where error.errorCode == .notFound || error.errorCode == .invalidRequest {
      // The link is dangling or does not lead to a regular file. Other errors end the copy: the link may lead to a
      // file.
      await context.console.complain("skipped \(Table.printable(entry.path)): it is a link to no regular file")
    }
  }

  /// - Parameter isTyped: whether the user typed `target`; then it may be a pipe or device, also through a link such as
  ///   /dev/stdout.
  private func downloadFile(_ source: FileResource, to target: String, isTyped: Bool = false) async throws {
    progress.begin(source.path, expectedBytes: source.size)
    if isTyped, try await LocalFile.status(target, followingLinks: true)?.kind == .other {
      // It is written to, not replaced.
      let file = try await LocalFile.open(target, flags: O_WRONLY | O_NOCTTY)
      return try await fill(file, from: source)
    }
    switch try await LocalFile.status(target, followingLinks: false)?.kind {
    case nil, .file: break
    case .directory: throw OperatingSystemError(target, code: EISDIR)
    case .link:
      throw APIError(
        .inputOutput, "\(target) is a link, which is neither followed nor replaced; remove it, or copy to another name")
    case .other: throw OperatingSystemError(target, code: EEXIST)
    }
    // Beside the target and not made of its name, which may be as long as names can be.
    let partial = CopyPath.join(
      CopyPath.parent(of: target), ".martlet-\(String(UInt64.random(in: .min ... .max), radix: 16)).part")
    do {
      // Made with the guest's mode, so that the kernel applies the umask; without permissions for others while it
      // grows.
      let file = try await LocalFile.open(
        partial, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: (source.mode ?? Self.defaultMode) & 0o777)
      let mode: UInt32
      do {
        mode = try await file.status().mode
        try await file.setMode(0o600)
      } catch {
        try? await file.close()
        throw error
      }
      try await fill(file, from: source, mode: mode)
      try await LocalFile.rename(partial, to: target)
    } catch {
      await LocalFile.remove(partial)
      throw error
    }
  }

  /// Closes the file in every case.
  private func fill(_ file: LocalFile, from source: FileResource, mode: UInt32? = nil) async throws {
    let console = context.console
    do {
      try await client.download(source.path, in: sandbox) { chunk in
        try await console.write(chunk, to: file.descriptor)
        await progress.add(chunk.readableBytes)
      }
      if let mode { try await file.setMode(mode) }
    } catch {
      try? await file.close()
      throw error
    }
    try await file.close()
  }

  private static func unsafe(_ name: String) -> APIError {
    APIError(
      .badResponse,
      "the sandbox named a file '\(Table.printable(name))', which is not a name of a file; nothing was written for it")
  }
}

private final class Counter: Sendable {
  private let state = Mutex(0)

  var value: Int { state.withLock { $0 } }
  func increment() { state.withLock { $0 += 1 } }
}
