import HTTPTypes
import HostAPI
import Hummingbird
import Model
import NIOCore

/// Reads a file upload from a request body: the form fields before the file, then the file's content as a stream.
///
/// The content is read from the connection on demand, so that a slow guest slows the client down. An upload that ends
/// before its closing boundary throws; it never counts as a shorter file.
actor FileUpload {
  /// Maximum size of a form field other than the file.
  static let maximumFieldBytes = Limits.pathBytes

  private let maximumFileBytes: Int?
  private var parser: MultipartParser
  private var iterator: RequestBody.AsyncIterator
  private var fileBytes = 0
  private var isInFile = false

  /// - Parameter maximumFileBytes: nil for no limit.
  /// - Throws: `invalid_request` if the body is not a form, `too_large` if the Content-Length exceeds the limit.
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

  /// Reads all parts before the file.
  /// - Returns: the form fields by name.
  /// - Throws: `invalid_request` for an unknown part or if the part `file` is missing.
  func fieldsBeforeFile(known: [String]) async throws -> [String: String] {
    var fields: [String: String] = [:]
    while let event = try await event() {
      switch event {
      case .part("file"):
        isInFile = true
        return fields
      case .part(let name):
        guard known.contains(name) else {
          throw Self.malformed("unknown form part; allowed are \(known.joined(separator: ", ")) and file")
        }
        fields[name] = try await field(name)
      case .end:
        throw Self.malformed("the form part file is missing")
      case .content, .partEnd:
        continue
      }
    }
    throw Self.truncated
  }

  /// The next chunk of the file; nil at its end.
  func nextChunk() async throws -> ByteBuffer? {
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
      guard case .content(let chunk) = event else { break }
      guard bytes.readableBytes + chunk.readableBytes <= Self.maximumFieldBytes else {
        throw Self.malformed("\(name) may have at most \(Self.maximumFieldBytes) bytes")
      }
      bytes.writeImmutableBuffer(chunk)
    }
    guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
      throw Self.malformed("\(name) must be UTF-8")
    }
    return text
  }

  private func event() async throws -> MultipartParser.Event? {
    while true {
      if let event = try parser.next() { return event }
      // The upload has one consumer, so only this copy of the iterator is in use.
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
    MartletError(.invalidRequest, "the upload ended before its closing boundary; send the file again")
  }

  private static func tooLarge(_ limit: Int) -> MartletError {
    MartletError(.tooLarge, "a file may have at most \(limit) bytes here; use files/stream/write for larger ones")
  }
}

/// The file of an upload as an asynchronous sequence. Can be iterated once.
struct FileUploadContent: AsyncSequence, Sendable {
  typealias Element = ByteBuffer
  typealias Failure = any Error

  let upload: FileUpload

  struct AsyncIterator: AsyncIteratorProtocol {
    let upload: FileUpload

    mutating func next() async throws -> ByteBuffer? {
      try await upload.nextChunk()
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(upload: upload)
  }
}
