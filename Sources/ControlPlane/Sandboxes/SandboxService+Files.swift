package import HostAPI
package import Model

/// A path in a guest, and the user whose permissions and home directory apply; nil means the template's default user.
package struct GuestFile: Sendable, Equatable {
  package var path: String
  package var user: String?

  /// - Throws: `invalid_request` with the name of the field.
  package init(path: String, field: String = "path", user: String? = nil) throws(MartletError) {
    try GuestPath.check(path, field)
    if let user { try ProcessRequest.checkUser(user) }
    self.path = path
    self.user = user
  }
}

extension SandboxService {
  /// The destination of a file upload: an existing, running sandbox. Must be looked up before the request body is read.
  package struct FileTarget: Sendable {
    let id: SandboxID
    let host: any HostClient
  }

  package func fileTarget(in id: SandboxID, for caller: Caller) async throws -> FileTarget {
    FileTarget(id: id, host: try await runningHost(of: id, for: caller))
  }

  /// Streams `body` into a file, with back pressure: each part is read after the guest has accepted the previous one.
  package func write(_ body: ByteStream, to file: GuestFile, _ target: FileTarget, for caller: Caller) async throws {
    try await audited("file.write", target.id, caller) {
      try await target.host.writeFile(file.path, user: file.user, body: body, in: target.id)
    }
    touch(target.id)
  }

  /// - Throws: `not_found` when the file does not exist in the guest.
  package func read(_ file: GuestFile, in id: SandboxID, for caller: Caller) async throws -> FileDownload {
    let host = try await runningHost(of: id, for: caller)
    return try await guestCall { try await host.readFile(file.path, user: file.user, in: id) }
  }

  package func list(_ file: GuestFile, depth: Int, in id: SandboxID, for caller: Caller) async throws -> [FileEntry] {
    guard (1...64).contains(depth) else { throw MartletError(.invalidRequest, "depth must be between 1 and 64") }
    let host = try await runningHost(of: id, for: caller)
    return try await guestCall { try await host.listDirectory(file.path, depth: depth, user: file.user, in: id) }
  }

  package func status(_ file: GuestFile, in id: SandboxID, for caller: Caller) async throws -> FileEntry {
    let host = try await runningHost(of: id, for: caller)
    return try await guestCall { try await host.fileStatus(file.path, user: file.user, in: id) }
  }

  package func makeDirectory(_ file: GuestFile, in id: SandboxID, for caller: Caller) async throws -> FileEntry {
    try await audited("file.mkdir", id, caller) {
      let host = try await runningHost(of: id, for: caller)
      return try await guestCall { try await host.makeDirectory(file.path, user: file.user, in: id) }
    }
  }

  package func rename(
    _ source: GuestFile, to destination: GuestFile, in id: SandboxID, for caller: Caller
  ) async throws -> FileEntry {
    try await audited("file.rename", id, caller) {
      let host = try await runningHost(of: id, for: caller)
      return try await guestCall {
        try await host.renameFile(from: source.path, to: destination.path, user: source.user, in: id)
      }
    }
  }

  package func remove(_ file: GuestFile, in id: SandboxID, for caller: Caller) async throws {
    try await audited("file.remove", id, caller) {
      let host = try await runningHost(of: id, for: caller)
      try await guestCall { try await host.removeFile(file.path, user: file.user, in: id) }
    }
  }
}
