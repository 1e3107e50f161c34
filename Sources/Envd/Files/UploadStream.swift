import NIOCore

/// Writes one upload while it arrives, in batches: few system calls, and the socket is read while a batch is written to
/// the disk.
///
/// Holds at most one batch. The connection holds a few reads more and then stops reading (back-pressure).
struct UploadStream {
  /// A batch is written when it has this many bytes …
  static let batchBytes = 524_288
  /// … or this many pieces, so that tiny chunks cannot accumulate.
  static let batchPieces = 256

  private let upload: OpenedUpload
  private var batch: [ByteBuffer] = []
  private var bytes = 0

  /// Creates or truncates the file.
  init(path: String, user: GuestUser) async throws {
    upload = try await FileThreads.run { try OpenedUpload.open(path, for: user) }
  }

  mutating func append(_ buffer: ByteBuffer) async throws {
    guard buffer.readableBytes > 0 else { return }
    batch.append(buffer)
    bytes += buffer.readableBytes
    if bytes >= Self.batchBytes || batch.count >= Self.batchPieces { try await flush() }
  }

  mutating func finish(metadata: FileMetadata) async throws -> UploadResult {
    let upload = upload
    let rest = take()
    try await FileThreads.run {
      try upload.write(rest)
      try upload.finish(metadata: metadata)
    }
    return UploadResult(path: upload.path, metadata: metadata)
  }

  /// Never throws and also works in a cancelled task, because a failed upload must not leave an incomplete file.
  func discard() {
    upload.discard()
  }

  private mutating func flush() async throws {
    let upload = upload
    let batch = take()
    try await FileThreads.run { try upload.write(batch) }
  }

  private mutating func take() -> [ByteBuffer] {
    defer {
      batch.removeAll(keepingCapacity: true)
      bytes = 0
    }
    return batch
  }
}

/// One element of the response to an upload.
///
/// Source: E2B's envd contract
struct UploadResult: Sendable, Equatable, Encodable {
  let path: String
  let name: String
  let type: String
  /// nil when there is none.
  let metadata: [String: String]?

  init(path: String, metadata: FileMetadata) {
    self.path = path
    name = LexicalPath.name(of: path)
    type = "file"
    self.metadata = metadata.values.isEmpty ? nil : metadata.values
  }
}
