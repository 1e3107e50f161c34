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

/// Consumes the decoded body of an upload.
protocol UploadSink {
  mutating func consume(_ buffer: ByteBuffer) async throws
  /// The body is complete.
  mutating func finish() async throws -> [UploadResult]
  /// The upload has failed: removes the incomplete file.
  mutating func discard()
}

/// `application/octet-stream`: the body is one file.
struct RawUploadSink: UploadSink {
  private var stream: UploadStream
  private let metadata: FileMetadata

  init(path: String, user: GuestUser, metadata: FileMetadata) async throws {
    stream = try await UploadStream(path: path, user: user)
    self.metadata = metadata
  }

  mutating func consume(_ buffer: ByteBuffer) async throws {
    try await stream.append(buffer)
  }

  mutating func finish() async throws -> [UploadResult] {
    [try await stream.finish(metadata: metadata)]
  }

  mutating func discard() {
    stream.discard()
  }
}

/// `multipart/form-data`: every part named `file` is a file; others are ignored.
///
/// Parts that were complete before a failure stay, as in E2B's agent.
struct MultipartUploadSink: UploadSink {
  private var parser: MultipartBodyParser
  private let target: UploadTarget
  private var current: UploadStream?
  private var finished: [UploadResult] = []
  private var paths: Set<String> = []

  init(contentType: String, target: UploadTarget) throws {
    parser = try MultipartBodyParser(contentType: contentType)
    self.target = target
  }

  mutating func consume(_ buffer: ByteBuffer) async throws {
    for event in try parser.consume(buffer) {
      switch event {
      case .begin(let headers): try await begin(headers)
      case .content(let content): try await current?.append(content)
      case .end: try await end()
      }
    }
  }

  mutating func finish() async throws -> [UploadResult] {
    try parser.finish()
    return finished
  }

  mutating func discard() {
    current?.discard()
    current = nil
  }

  private mutating func begin(_ headers: MultipartHeaders) async throws {
    guard headers.name == "file" else { return }
    let path = try target.path(filename: headers.filename)
    guard paths.insert(path).inserted else {
      throw FileFailure(
        .invalidArgument,
        "you cannot upload multiple files to the same path '\(path)' in one upload request, only the first was uploaded"
      )
    }
    current = try await UploadStream(path: path, user: target.user)
  }

  private mutating func end() async throws {
    guard var stream = current else { return }
    // Still `current` while it is being finished, so that a failure there discards it.
    finished.append(try await stream.finish(metadata: target.metadata))
    current = nil
  }
}

/// The destination of an upload and the user in whose name it is written.
struct UploadTarget: Sendable {
  let user: GuestUser
  let defaultWorkdir: String?
  /// The `path` of the query. It takes precedence over file names.
  let requestedPath: String?
  let metadata: FileMetadata

  /// - Throws: `invalidArgument` when neither the query nor the part names a path.
  func path(filename: String?) throws(FileFailure) -> String {
    guard let name = requestedPath ?? filename, !name.isEmpty else {
      throw FileFailure(
        .invalidArgument, "the upload names no file: give a path in the query or a filename in the part")
    }
    return try LexicalPath.resolve(name, home: user.home, defaultWorkdir: defaultWorkdir)
  }
}
