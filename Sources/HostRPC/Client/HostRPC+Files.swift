import AsyncHTTPClient
import Concurrency
import Connect
import ConnectClient
package import HostAPI
package import Model
import NIOCore
import NIOHTTP1
import Protos
import SwiftProtobuf

extension HostRPC {
  private static let maximumErrorBytes = 65_536

  /// Uploads `body`, which is read as fast as the host accepts it.
  /// - Throws: the host's error, or the error of `body` as `MartletError`.
  package func writeFile(_ path: String, user: String?, body: ByteStream, in id: SandboxID) async throws {
    try await upload(Host_FileRequest(path, user: user, in: id), body)
  }

  private func upload<Body: AsyncSequence & Sendable>(_ file: Host_FileRequest, _ body: Body) async throws
  where Body.Element == ByteBuffer {
    let source = UploadSource(body)
    do {
      let target = "\(HostFilesRoute.path)?\(HostFilesRoute.parameter)=\(try file.queryValue())"
      let proof = signer.sign(.PUT, target)
      try await IdleWatch.run(limit: limits.streamIdle) { watch in
        var request = HTTPClientRequest(url: baseURL + target)
        request.method = .PUT
        request.headers = proof.headers
        request.headers.replaceOrAdd(name: "content-type", value: "application/octet-stream")
        request.body = .stream(WatchedUpload(base: FramedContent(source), watch: watch), length: .unknown)
        watch.beginWaiting()
        let response = try await httpClient.execute(request, deadline: .distantFuture)
        try proof.check(response)
        let responseBody = try await response.body.collect(upTo: Self.maximumErrorBytes)
        guard response.status.code / 100 == 2 else {
          throw ConnectError(body: responseBody, httpStatus: Int(response.status.code))
        }
      }
    } catch {
      if let error = source.error { throw MartletError.wrapping(error) }
      throw HostErrors.martletError(error)
    }
  }

  /// Downloads a file. The body throws an error if the end of the content is missing.
  package func readFile(_ path: String, user: String?, in id: SandboxID) async throws -> FileDownload {
    try await hostCall {
      let request = Host_FileRequest(path, user: user, in: id)
      let timeoutError = MartletError(.hostUnavailable, "the sandbox's host did not open the file in time; try again")
      let (first, events) = try await withDeadline(limits.opening, throwing: timeoutError) {
        let responses: ConnectResponses<Host_ReadFileEvent> = try await connect.serverStream(
          HostMethod.service, HostMethod.readFile.rawValue, request,
          options: ConnectCallOptions(maximumMessageBytes: limits.eventBytes))
        let events = fileEvents(responses)
        return (try await events.makeAsyncIterator().next(), events)
      }
      guard case .opened(let opened)? = first?.event else { throw MalformedHostMessage("opened") }
      return FileDownload(sizeBytes: opened.hasSizeBytes ? opened.sizeBytes : nil, body: RemoteContent(events: events))
    }
  }

  private func fileEvents(_ responses: ConnectResponses<Host_ReadFileEvent>) -> BoundedStream<Host_ReadFileEvent> {
    BoundedStream(
      capacity: limits.waitingEvents, idleLimit: limits.streamIdle, translating: { HostErrors.martletError($0) }
    ) { queue, watch in
      var iterator = responses.makeAsyncIterator()
      while let event = try await watch.waiting(for: { try await iterator.next() }) {
        if case .keepalive? = event.event { continue }
        try await queue.send(event)
      }
    }
  }

  // MARK: - Directory entries

  package func listDirectory(_ path: String, depth: Int, user: String?, in id: SandboxID) async throws -> [FileEntry] {
    let request = Host_ListDirectoryRequest.with {
      $0.sandboxID = id.wire
      $0.path = path
      if let user { $0.user = user }
      $0.depth = Int64(depth)
    }
    let response: Host_ListDirectoryResponse = try await unary(.listDirectory, request)
    return try await hostCall { try response.entries.map { try FileEntry($0) } }
  }

  package func fileStatus(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await entry(.getFileStatus, Host_FileRequest(path, user: user, in: id))
  }

  package func makeDirectory(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await entry(.makeDirectory, Host_FileRequest(path, user: user, in: id))
  }

  package func renameFile(
    from source: String, to destination: String, user: String?, in id: SandboxID
  ) async throws -> FileEntry {
    let request = Host_RenameFileRequest.with {
      $0.sandboxID = id.wire
      $0.source = source
      $0.destination = destination
      if let user { $0.user = user }
    }
    return try await entry(.renameFile, request)
  }

  package func removeFile(_ path: String, user: String?, in id: SandboxID) async throws {
    let _: Host_Done = try await unary(.removeFile, Host_FileRequest(path, user: user, in: id))
  }

  private func entry(_ method: HostMethod, _ request: some Message) async throws -> FileEntry {
    let response: Host_FileEntry = try await unary(method, request)
    return try await hostCall { try FileEntry(response) }
  }
}

/// The content of a downloaded file, without the other events of its stream.
private struct RemoteContent: AsyncSequence, Sendable {
  typealias Element = ByteBuffer

  let events: BoundedStream<Host_ReadFileEvent>

  func makeAsyncIterator() -> AsyncIterator { AsyncIterator(events: events.makeAsyncIterator()) }

  struct AsyncIterator: AsyncIteratorProtocol {
    let events: BoundedStream<Host_ReadFileEvent>.AsyncIterator

    mutating func next() async throws -> ByteBuffer? {
      while let event = try await hostCall({ try await events.next() }) {
        if case .data(let data)? = event.event { return ByteBuffer(bytes: data) }
      }
      return nil
    }
  }
}
