import HTTPTypes
import Hummingbird
import NIOCore

/// The body of an upload request. Its headers say how to decode it.
struct UploadBody {
  private let request: Request

  init(_ request: Request) {
    self.request = request
  }

  /// Reads the whole body into files.
  /// - Throws: `FileFailure`, after the incomplete file was removed.
  func receive(target: UploadTarget) async throws -> [UploadResult] {
    let inflater = try inflater()
    let contentType = request.headers[.contentType] ?? ""
    switch HeaderParameters.mainValue(contentType) {
    case "application/octet-stream":
      guard target.requestedPath != nil else {
        throw FileFailure(.invalidArgument, "path query parameter is required for raw body upload")
      }
      let sink = try await RawUploadSink(path: target.path(filename: nil), user: target.user, metadata: target.metadata)
      return try await pour(into: sink, inflater: inflater)
    case let type where type.hasPrefix("multipart/"):
      return try await pour(into: MultipartUploadSink(contentType: contentType, target: target), inflater: inflater)
    default:
      throw FileFailure(
        .invalidArgument,
        "unsupported content type '\(contentType)': expected multipart/form-data or application/octet-stream")
    }
  }

  private func inflater() throws(FileFailure) -> Inflater? {
    switch request.headers[.contentEncoding]?.lowercased() {
    case nil, "", "identity": return nil
    case "gzip", "x-gzip": return try Inflater()
    case let other?:
      throw FileFailure(.invalidArgument, "unsupported content encoding '\(other)': gzip and identity are supported")
    }
  }

  private func pour(into sink: some UploadSink, inflater: Inflater?) async throws -> [UploadResult] {
    var sink = sink
    do {
      let expected = request.headers[.contentLength].flatMap { Int64($0) }
      var received: Int64 = 0
      for try await buffer in request.body {
        received += Int64(buffer.readableBytes)
        guard let inflater else {
          try await sink.consume(buffer)
          continue
        }
        inflater.feed(buffer)
        while let output = try inflater.next() { try await sink.consume(output) }
      }
      try Self.requireComplete(received: received, expected: expected)
      try inflater?.finish()
      return try await sink.finish()
    } catch {
      sink.discard()
      throw error
    }
  }

  /// A broken connection ends the body like a complete one; the content length tells the difference.
  private static func requireComplete(received: Int64, expected: Int64?) throws {
    try Task.checkCancellation()
    if let expected, received < expected {
      throw FileFailure(.canceled, "the upload broke off after \(received) of \(expected) bytes")
    }
  }
}
