import ConnectClient
import Foundation
package import HostAPI
import Model
import Protos
import SwiftProtobuf

/// Directory operations: everything about files except their content.
extension GuestClient {
  private static let filesystemService = "filesystem.Filesystem"

  /// - Parameter depth: 1 for the directory's own entries; below 1 counts as 1.
  package func listDirectory(_ path: String, depth: Int, user: String?) async throws -> [FileEntry] {
    let request = Filesystem_ListDirRequest.with {
      $0.path = path
      $0.depth = UInt32(clamping: max(1, depth))
    }
    let response: Filesystem_ListDirResponse = try await filesystem("ListDir", request, user)
    return response.entries.map { FileEntry($0) }
  }

  package func fileStatus(_ path: String, user: String?) async throws -> FileEntry {
    let response: Filesystem_StatResponse = try await filesystem(
      "Stat", .with { $0.path = path } as Filesystem_StatRequest, user)
    return FileEntry(response.entry)
  }

  package func makeDirectory(_ path: String, user: String?) async throws -> FileEntry {
    let request = Filesystem_MakeDirRequest.with { $0.path = path }
    let response: Filesystem_MakeDirResponse = try await filesystem("MakeDir", request, user)
    return FileEntry(response.entry)
  }

  package func renameFile(from source: String, to destination: String, user: String?) async throws -> FileEntry {
    let request = Filesystem_MoveRequest.with {
      $0.source = source
      $0.destination = destination
    }
    let response: Filesystem_MoveResponse = try await filesystem("Move", request, user)
    return FileEntry(response.entry)
  }

  /// Removes recursively; a path that does not exist is a success.
  package func removeFile(_ path: String, user: String?) async throws {
    let request = Filesystem_RemoveRequest.with { $0.path = path }
    let _: Filesystem_RemoveResponse = try await filesystem("Remove", request, user)
  }

  private func filesystem<Q: Message, R: Message>(_ method: String, _ request: Q, _ user: String?) async throws -> R {
    var options = options(user: user)
    options.maximumMessageBytes = limits.listingBytes
    return try await guestCall(.file) { [options] in
      try await connect.unary(Self.filesystemService, method, request, options: options)
    }
  }
}

extension FileEntry {
  /// The agent describes a symbolic link by the type of its target and the target's path.
  init(_ entry: Filesystem_EntryInfo) {
    self.init(
      name: entry.name, path: entry.path, kind: Self.kind(entry), sizeBytes: entry.size, mode: entry.mode & 0o7777,
      permissions: entry.permissions, owner: entry.owner, group: entry.group,
      modifiedAt: entry.modifiedTime.clampedDate,
      symlinkTarget: entry.hasSymlinkTarget ? entry.symlinkTarget : nil)
  }

  private static func kind(_ entry: Filesystem_EntryInfo) -> Kind {
    guard !entry.hasSymlinkTarget, !entry.isSymlink else { return .symlink }
    return switch entry.type {
    case .file: .file
    case .directory: .directory
    case .symlink: .symlink
    case .unspecified, .UNRECOGNIZED: .other
    }
  }
}
