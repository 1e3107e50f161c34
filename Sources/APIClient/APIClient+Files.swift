import AsyncHTTPClient
import Foundation
package import Model
package import NIOCore
import NIOHTTP1

extension APIClient {
  package func fileStatus(_ path: String, in id: SandboxID) async throws -> FileResource {
    try await call(.POST, Self.files(id, "stat"), body: encode(PathBody(path: path)))
  }

  /// Like `fileStatus`, but for a symbolic link to a directory returns the directory's status.
  package func resolvedStatus(_ path: String, in id: SandboxID) async throws -> FileResource {
    let status = try await fileStatus(path, in: id)
    guard status.type == "symlink", let target = try? await fileStatus(status.path + "/.", in: id),
      target.type == "directory"
    else {
      return status
    }
    return target
  }

  /// Lists the direct entries of a directory.
  package func listDirectory(_ path: String, in id: SandboxID) async throws -> [FileResource] {
    try await call(.POST, Self.files(id, "list"), body: encode(PathBody(path: path, depth: 1)))
  }

  /// Creates a directory and its missing parents; succeeds if the directory exists already.
  package func makeDirectory(_ path: String, in id: SandboxID) async throws {
    do {
      try await perform(.POST, Self.files(id, "mkdir"), body: encode(PathBody(path: path)))
    } catch let error as APIError where error.errorCode == .alreadyExists {
      guard try await fileStatus(path, in: id).type == "directory" else { throw error }
    }
  }

  package func removeFile(_ path: String, in id: SandboxID) async throws {
    try await perform(.POST, Self.files(id, "remove"), body: encode(PathBody(path: path)))
  }

  /// Streams `source` into a guest file with constant memory.
  ///
  /// - Parameter sizeBytes: sent as the length when known; a source that yields another number of bytes throws
  ///   `truncated`.
  /// - Throws: `timed_out` if the server accepts no bytes for `Bounds.stallTimeout`; errors of the source unchanged.
  package func upload<Source: AsyncSequence & Sendable>(
    _ source: Source, sizeBytes: Int64?, to path: String, user: String? = nil, in id: SandboxID
  ) async throws where Source.Element == ByteBuffer {
    let form = UploadForm(path: path, user: user)
    let base = request(.POST, Self.files(id, "stream/write"))
    do {
      try await StallWatch.run(limit: Bounds.stallTimeout) { watch in
        var request = base
        request.headers.add(name: "Content-Type", value: form.contentType)
        let content = UploadSequence(form: form, source: source, expectedBytes: sizeBytes, watch: watch)
        request.body = .stream(content, length: sizeBytes.map { .known(form.contentLength(fileBytes: $0)) } ?? .unknown)
        watch.begin()
        let response = try await http.execute(request, deadline: .distantFuture)
        let body = try await collect(response, watch: watch)
        guard (200..<300).contains(response.status.code) else {
          throw APIError(status: Int(response.status.code), body: body)
        }
      }
    } catch {
      throw APIError.wrapping(error, at: endpoint)
    }
  }

  /// Streams a guest file to `consume` with constant memory; reads the next bytes after `consume` has returned.
  ///
  /// - Returns: the size of the file in bytes.
  /// - Throws: `truncated` or `connection_lost` if the stream ends before the end of the file; errors of `consume`
  ///   unchanged.
  @discardableResult
  package func download(
    _ path: String, in id: SandboxID, consume: @escaping @Sendable (ByteBuffer) async throws -> Void
  ) async throws -> Int64 {
    var request = request(.POST, Self.files(id, "stream/read"))
    request.headers.replaceOrAdd(name: "Accept", value: "application/octet-stream")
    request.headers.add(name: "Content-Type", value: "application/json")
    request.body = .bytes(ByteBuffer(bytes: try encode(PathBody(path: path))))
    do {
      let response = try await http.execute(request, timeout: TimeAmount(Bounds.stallTimeout))
      return try await StallWatch.run(limit: Bounds.stallTimeout) { watch in
        guard response.status == .ok else {
          throw APIError(status: Int(response.status.code), body: try await collect(response, watch: watch))
        }
        return try await drain(response, watch: watch, into: consume)
      }
    } catch {
      throw APIError.wrapping(error, at: endpoint)
    }
  }

  private func drain(
    _ response: HTTPClientResponse, watch: StallWatch, into consume: @Sendable (ByteBuffer) async throws -> Void
  ) async throws -> Int64 {
    var received: Int64 = 0
    var iterator = response.body.makeAsyncIterator()
    while let chunk = try await watch.waiting({ try await iterator.next() }) {
      received += Int64(chunk.readableBytes)
      try await consume(chunk)
    }
    if let announced = response.headers.first(name: "Content-Length").flatMap({ Int64($0) }), announced != received {
      throw APIError(.truncated, "the download ended after \(received) of \(announced) bytes")
    }
    return received
  }

  private static func files(_ id: SandboxID, _ verb: String) -> String { "\(path(id))/files/\(verb)" }
}

private struct PathBody: Encodable {
  var path: String
  var depth: Int?
}
