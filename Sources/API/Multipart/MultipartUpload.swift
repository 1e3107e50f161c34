import HTTPTypes
import HostAPI
import Hummingbird
import Model
import NIOCore

/// An upload in progress: the fields before the file, then the file's content as a stream (EX-3).
///
/// Content is pulled from the connection when the consumer asks, so that a slow guest slows the client down. An upload
/// that ends without its last boundary throws, it is never taken for a short file (L-15).
actor MultipartUpload {
  /// A form field that is not the file.
  static let maximumFieldBytes = Limits.pathBytes

  private let maximumFileBytes: Int?
  private var parser: MultipartParser
  private var iterator: RequestBody.AsyncIterator
  private var fileBytes = 0
  private var isInFile = false

  /// - Parameter maximumFileBytes: nil for no bound.
  /// - Throws: `invalid_request` when the request is no form, `too_large` when the client announces too much.
  init(_ request: Request, maximumFileBytes: Int?) throws(MartletError) {
    let boundary = try MultipartParser.boundary(contentType: request.headers[.contentType])
    if let maximumFileBytes {
      let overhead = MultipartParser.maximumHeaderBytes * 4
      if let announced = request.headers[.contentLength].flatMap(Int.init), announced > maximumFileBytes + overhead {
        throw Self.tooLarge(maximumFileBytes)
      }
    }
    self.maximumFileBytes = maximumFileBytes
    parser = MultipartParser(boundary: boundary)
    iterator = request.body.makeAsyncIterator()
  }

  /// Reads up to the beginning of the file.
  /// - Returns: the fields before it.
  /// - Throws: `invalid_request` for unknown or missing parts.
  func fieldsBeforeFile(known: [String]) async throws -> [String: String] {
    var fields: [String: String] = [:]
    while let event = try await event() {
      switch event {
      case .part("file"):
        isInFile = true
        return fields
      case .part(let name):
        guard known.contains(name) else {
          throw Self.malformed("unknown part; known are \(known.joined(separator: ", ")), file")
        }
        fields[name] = try await field(name)
      case .end:
        throw Self.malformed("the part file is missing")
      case .content, .partEnd:
        continue
      }
    }
    throw Self.truncated
  }

  /// The next piece of the file; nil at its end.
  func nextPiece() async throws -> ByteBuffer? {
    guard isInFile else { return nil }
    switch try await event() {
    case .content(let bytes):
      fileBytes += bytes.readableBytes
      if let maximumFileBytes, fileBytes > maximumFileBytes { throw Self.tooLarge(maximumFileBytes) }
      return bytes
    case .partEnd:
      isInFile = false
      return nil
    default:
      throw Self.truncated
    }
  }

  private func field(_ name: String) async throws -> String {
    var bytes = ByteBuffer()
    while let event = try await event() {
      guard case .content(let piece) = event else { break }
      guard bytes.readableBytes + piece.readableBytes <= Self.maximumFieldBytes else {
        throw Self.malformed("\(name) may have at most \(Self.maximumFieldBytes) bytes")
      }
      bytes.writeImmutableBuffer(piece)
    }
    guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
      throw Self.malformed("\(name) must be UTF-8")
    }
    return text
  }

  private func event() async throws -> MultipartParser.Event? {
    while true {
      if let event = try parser.next() { return event }
      // One consumer at a time, so the copy is the only one in use.
      var iterator = iterator
      let bytes = try await iterator.next(isolation: self)
      self.iterator = iterator
      guard let bytes else { throw Self.truncated }
      parser.append(bytes)
    }
  }

  private static func malformed(_ what: String) -> MartletError {
    MartletError(.invalidRequest, what)
  }

  private static var truncated: MartletError {
    MartletError(.invalidRequest, "the upload ended before its last boundary")
  }

  private static func tooLarge(_ limit: Int) -> MartletError {
    MartletError(.tooLarge, "a file may have at most \(limit) bytes here; use files/stream/write for larger ones")
  }
}

/// The file of an upload as the byte stream that hosts take. To be iterated once.
struct UploadedFile: AsyncSequence, Sendable {
  typealias Element = ByteBuffer
  typealias Failure = any Error

  let upload: MultipartUpload

  struct AsyncIterator: AsyncIteratorProtocol {
    let upload: MultipartUpload

    mutating func next() async throws -> ByteBuffer? {
      try await upload.nextPiece()
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(upload: upload)
  }
}
