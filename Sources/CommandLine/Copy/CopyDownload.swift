import APIClient
import Glibc
import LinuxSystem
import Model
import NIOCore

/// Copies files from a sandbox to this machine. Names from the guest cannot lead outside the destination.
///
/// A file gets its name only when it is complete. Links to files arrive as files; other links are skipped with a
/// warning.
struct CopyDownload: Sendable {
  private static let maximumDepth = 256
  private static let defaultMode: UInt32 = 0o644

  let client: APIClient
  let sandbox: SandboxID
  let context: CommandContext
  let progress: CopyProgress

  func run(_ source: String, to destination: CopyPath) async throws {
    switch destination {
    case .remote: throw APIError(.invalidInput, "the destination of a download must be on this machine")
    case .standardStream: try await downloadToOutput(source)
    case .local(let path):
      let status = try await client.resolvedStatus(source, in: sandbox)
      let target = try await target(for: status, path)
      if status.type == "directory" {
        try await LocalFile.makeDirectory(target, followingLinks: true)
        try await downloadEntries(of: status.path, to: target, depth: 0)
      } else {
        try await downloadFile(status, to: target)
      }
    }
  }

  private func target(for source: FileResource, _ destination: String) async throws -> String {
    let status = try await LocalFile.status(destination, followingLinks: true)
    if status == nil, destination.hasSuffix("/"), source.type != "directory" {
      throw OperatingSystemError(destination, code: ENOENT)
    }
    guard status?.kind == .directory, let name = CopyPath.baseName(of: source.path) else { return destination }
    guard CopyPath.isPlainName(name) else { throw Self.unsafe(name) }
    return CopyPath.join(destination, name)
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

  private func downloadFile(_ source: FileResource, to target: String) async throws {
    progress.begin(source.path, expectedBytes: source.size)
    if let status = try await LocalFile.status(target, followingLinks: true), status.kind != .file {
      guard status.kind == .other else { throw OperatingSystemError(target, code: EISDIR) }
      // A pipe or device is written to, not replaced.
      let file = try await LocalFile.open(target, flags: O_WRONLY | O_NOCTTY)
      return try await fill(file, from: source)
    }
    // The temporary name does not contain the target's name, which may have the maximum length.
    let partial = CopyPath.join(
      CopyPath.parent(of: target), ".martlet-\(String(UInt64.random(in: .min ... .max), radix: 16)).part")
    do {
      let file = try await LocalFile.open(partial, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
      try await fill(file, from: source, mode: source.mode ?? Self.defaultMode)
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
