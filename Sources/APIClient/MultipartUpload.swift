import NIOCore

/// A `multipart/form-data` body with the `path` part first and the file as the last part, as the stream routes want it.
///
/// Source: RFC 7578; quoting of names as in the HTML standard ("multipart form data").
struct MultipartUpload: Sendable {
  let boundary: String
  let head: ByteBuffer
  let tail: ByteBuffer

  init(path: String, user: String?, boundary: String = MultipartUpload.randomBoundary()) {
    self.boundary = boundary
    var text = Self.field("path", path, boundary: boundary)
    if let user { text += Self.field("user", user, boundary: boundary) }
    text += "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n"
    text += "Content-Type: application/octet-stream\r\n\r\n"
    head = ByteBuffer(string: text)
    tail = ByteBuffer(string: "\r\n--\(boundary)--\r\n")
  }

  var contentType: String { "multipart/form-data; boundary=\(boundary)" }

  /// Length of the whole body around `fileBytes` bytes of file.
  func contentLength(fileBytes: Int64) -> Int64 {
    Int64(head.readableBytes) + fileBytes + Int64(tail.readableBytes)
  }

  private static func field(_ name: String, _ value: String, boundary: String) -> String {
    "--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n"
  }

  /// 128 random bits: no file contains it by accident, and none can be made to.
  private static func randomBoundary() -> String {
    "martlet-" + String(UInt64.random(in: .min ... .max), radix: 16)
      + String(UInt64.random(in: .min ... .max), radix: 16)
  }
}

/// The bytes of an upload: head, file, tail; checks the announced length and tells the watch when the network is to
/// move.
struct UploadSequence<Source: AsyncSequence & Sendable>: AsyncSequence, Sendable where Source.Element == ByteBuffer {
  typealias Element = ByteBuffer

  let form: MultipartUpload
  let source: Source
  /// What the source must add up to; nil when unknown.
  let expectedBytes: Int64?
  let watch: StallWatch

  struct AsyncIterator: AsyncIteratorProtocol {
    private enum Stage { case head, file, done }

    private var stage = Stage.head
    private var base: Source.AsyncIterator
    private var sentBytes: Int64 = 0
    private let upload: UploadSequence

    init(_ upload: UploadSequence) {
      self.upload = upload
      base = upload.source.makeAsyncIterator()
    }

    /// Time between two calls is the network's, time inside is the source's.
    mutating func next() async throws -> ByteBuffer? {
      upload.watch.end()
      let chunk = try await produce()
      upload.watch.begin()
      return chunk
    }

    private mutating func produce() async throws -> ByteBuffer? {
      switch stage {
      case .head:
        stage = .file
        return upload.form.head
      case .file:
        guard let chunk = try await base.next() else { return try finish() }
        sentBytes += Int64(chunk.readableBytes)
        guard upload.expectedBytes.map({ sentBytes <= $0 }) != false else { throw Self.changed }
        return chunk
      case .done: return nil
      }
    }

    private mutating func finish() throws -> ByteBuffer {
      stage = .done
      guard upload.expectedBytes.map({ $0 == sentBytes }) != false else { throw Self.changed }
      return upload.form.tail
    }

    private static var changed: APIError {
      APIError(.truncated, "the source changed its size while it was being sent; nothing complete was stored")
    }
  }

  func makeAsyncIterator() -> AsyncIterator { AsyncIterator(self) }
}
