import NIOCore

/// The head and tail of a `multipart/form-data` body for the route `files/stream/write`: the part `path` is first, the
/// part `file` last.
///
/// Source: RFC 7578; quoting of names as in the HTML standard ("multipart form data").
struct UploadForm: Sendable {
  let boundary: String
  let head: ByteBuffer
  let tail: ByteBuffer

  init(path: String, user: String?, boundary: String = UploadForm.randomBoundary()) {
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

  /// 128 random bits, so that a file contains the boundary neither by accident nor on purpose.
  private static func randomBoundary() -> String {
    "martlet-" + String(UInt64.random(in: .min ... .max), radix: 16)
      + String(UInt64.random(in: .min ... .max), radix: 16)
  }
}

/// The body of an upload: head, file, tail. Checks the announced length and times the network's progress.
struct UploadSequence<Source: AsyncSequence & Sendable>: AsyncSequence, Sendable where Source.Element == ByteBuffer {
  typealias Element = ByteBuffer

  let form: UploadForm
  let source: Source
  /// Required size of the source; nil if unknown.
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

    /// The time between two calls is spent by the network, the time inside a call by the source; the watch counts only
    /// the former.
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
      APIError(.truncated, "the source changed its size during the upload; the file was not stored")
    }
  }

  func makeAsyncIterator() -> AsyncIterator { AsyncIterator(self) }
}
