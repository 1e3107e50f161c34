import AsyncHTTPClient
import Concurrency
import Connect
import ConnectClient
package import HostAPI
import Model
import NIOCore
import NIOHTTP1

/// File content, streamed in both directions in constant memory.
extension GuestClient {
  /// Writes a file and creates its parent directories; an existing file is replaced. `body` is pulled as fast as the
  /// guest reads.
  /// - Throws: besides the guest's errors, the error of `body`, wrapped in a `MartletError` if it is not one.
  package func writeFile(_ path: String, user: String?, body: ByteStream) async throws {
    try await upload(path, user: user, body)
  }

  /// Opens a file for reading. The body throws if it ends before all bytes have arrived.
  package func readFile(_ path: String, user: String?) async throws -> FileDownload {
    var request = plainRequest(.GET, Self.filesRoute(path, user: user))
    request.headers.replaceOrAdd(name: "accept-encoding", value: "identity")
    let response = try await guestCall(.file) { [request] in
      let response = try await httpClient.execute(request, timeout: TimeAmount(limits.call))
      guard response.status == .ok else { throw try await refusal(response) }
      return response
    }
    guard response.headers.first(name: "content-encoding").map({ $0.lowercased() == "identity" }) ?? true else {
      throw GuestErrors.unreachable(cause: GuestFailure(message: "the guest sent an encoded file"))
    }
    let size = response.headers.first(name: "content-length").flatMap { Int64($0) }
    let body = download(response, expecting: size)
    return FileDownload(sizeBytes: size, body: body) { body.fail($0) }
  }

  private func upload<Body: AsyncSequence & Sendable>(_ path: String, user: String?, _ body: Body) async throws
  where Body.Element == ByteBuffer {
    var request = plainRequest(.POST, Self.filesRoute(path, user: user))
    request.headers.replaceOrAdd(name: "content-type", value: "application/octet-stream")
    let source = UploadSource(body)
    do {
      try await IdleWatch.run(limit: limits.streamIdle) { [request] watch in
        var request = request
        request.body = .stream(WatchedUpload(base: source, watch: watch), length: .unknown)
        watch.beginWaiting()
        let response = try await httpClient.execute(request, deadline: .distantFuture)
        guard response.status.code / 100 == 2 else { throw try await refusal(response) }
        _ = try await response.body.collect(upTo: limits.plainResponseBytes)
      }
    } catch {
      if let error = source.error { throw MartletError.wrapping(error) }
      throw GuestErrors.martletError(error, .file)
    }
  }

  private func download(_ response: HTTPClientResponse, expecting size: Int64?) -> BoundedStream<ByteBuffer> {
    BoundedStream(.file, capacity: limits.waitingChunks, idleLimit: limits.streamIdle) { queue, watch in
      var received: Int64 = 0
      var iterator = response.body.makeAsyncIterator()
      while let chunk = try await watch.waiting(for: { try await iterator.next() }) {
        received += Int64(chunk.readableBytes)
        try await queue.send(chunk)
      }
      guard size == nil || received == size else {
        throw ConnectError(.unavailable, "the download ended after \(received) bytes")
      }
    }
  }

  private func refusal(_ response: HTTPClientResponse) async throws -> MartletError {
    let body = try await withDeadline(
      limits.call, throwing: ConnectError(.deadlineExceeded, "the guest agent did not respond in time")
    ) { try await response.body.collect(upTo: limits.plainResponseBytes) }
    return Self.refusal(response.status, body, .file)
  }

  private static func filesRoute(_ path: String, user: String?) -> String {
    let query = "/files?path=\(queryValue(path))"
    guard let user else { return query }
    return "\(query)&username=\(queryValue(user))"
  }
}
