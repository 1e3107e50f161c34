import Foundation
package import HostAPI
package import Model
package import NIOCore

extension SimulatedHost {
  package func file(_ path: String, in id: SandboxID) -> ByteBuffer? { files[id]?[path] }
  /// A file in the generation that the last pause saved.
  package func savedFile(_ path: String, in id: SandboxID) -> ByteBuffer? { generations[id]?.last?[path] }
  /// A file in a named snapshot.
  package func snapshotFile(_ path: String, in name: SafeName, of team: TeamID) -> ByteBuffer? {
    snapshots[SnapshotKey(name, team)]?.files[path]
  }
  package func put(_ path: String, _ content: ByteBuffer, in id: SandboxID) { files[id, default: [:]][path] = content }

  package func writeFile(_ path: String, user: String?, body: ByteStream, in id: SandboxID) async throws {
    try await gate(.write)
    _ = try running(id)
    var content = ByteBuffer()
    do {
      for try await piece in body { content.writeImmutableBuffer(piece) }
    } catch {
      brokenUploads += 1
      throw error
    }
    files[id, default: [:]][path] = content
  }

  package func readFile(_ path: String, user: String?, in id: SandboxID) async throws -> FileDownload {
    try await gate(.read)
    _ = try running(id)
    guard let content = files[id]?[path] else { throw MartletError(.notFound, "there is no file \(path)") }
    let fault = readFault
    var remaining = content
    var sent = 0
    let pieces: [ByteBuffer] = {
      var pieces: [ByteBuffer] = []
      while let piece = remaining.readSlice(length: min(65_536, remaining.readableBytes)), piece.readableBytes > 0 {
        pieces.append(piece)
      }
      return pieces
    }()
    let (stream, continuation) = AsyncThrowingStream<ByteBuffer, any Error>.makeStream()
    for piece in pieces {
      if let fault, sent + piece.readableBytes > fault.after {
        continuation.finish(throwing: SimulatedFault())
        break
      }
      sent += piece.readableBytes
      continuation.yield(piece)
    }
    continuation.finish()
    return FileDownload(sizeBytes: fault == nil ? Int64(content.readableBytes) : fault?.announced, body: stream)
  }

  package func listDirectory(_ path: String, depth: Int, user: String?, in id: SandboxID) async throws -> [FileEntry] {
    _ = try running(id)
    return files[id, default: [:]].filter { $0.key.hasPrefix(path) }.map { entry($0.key, $0.value) }.sorted {
      $0.path < $1.path
    }
  }

  package func fileStatus(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    guard let content = files[id]?[path] else { throw MartletError(.notFound, "there is no file \(path)") }
    return entry(path, content)
  }

  package func makeDirectory(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    var made = entry(path, ByteBuffer())
    made.kind = .directory
    return made
  }

  package func renameFile(
    from source: String, to destination: String, user: String?, in id: SandboxID
  ) async throws -> FileEntry {
    guard let content = files[id]?.removeValue(forKey: source) else {
      throw MartletError(.notFound, "there is no file \(source)")
    }
    files[id, default: [:]][destination] = content
    return entry(destination, content)
  }

  package func removeFile(_ path: String, user: String?, in id: SandboxID) async throws {
    guard files[id]?.removeValue(forKey: path) != nil else { throw MartletError(.notFound, "there is no file \(path)") }
  }

  private func entry(_ path: String, _ content: ByteBuffer) -> FileEntry {
    FileEntry(
      name: path.split(separator: "/").last.map(String.init) ?? path, path: path, kind: .file,
      sizeBytes: Int64(content.readableBytes),
      mode: 0o644, permissions: "-rw-r--r--", owner: "user", group: "user",
      modifiedAt: Date(timeIntervalSince1970: 1_700_000_000))
  }
}
