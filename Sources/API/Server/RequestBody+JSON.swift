import HTTPTypes
import Hummingbird
import Model
import NIOCore

extension Request {
  /// Reads a JSON body; an empty one counts as `{}`.
  /// - Throws: `too_large`, before anything is read when the client announces the size; `invalid_request`.
  func json(upTo limit: Int = Limits.requestBodyBytes) async throws -> JSONValue {
    try refuseLongerThan(limit)
    let bytes: ByteBuffer
    do {
      bytes = try await body.collect(upTo: limit)
    } catch is NIOTooManyBytesError {
      throw Self.tooLarge(limit)
    }
    guard bytes.readableBytes > 0 else { return [:] }
    return try JSONParser.parse(bytes.readableBytesView)
  }

  func refuseLongerThan(_ limit: Int) throws(MartletError) {
    guard let field = headers[.contentLength] else { return }
    guard let length = Int(field), length <= limit else { throw Self.tooLarge(limit) }
  }

  private static func tooLarge(_ limit: Int) -> MartletError {
    MartletError(.tooLarge, "the request body may have at most \(limit) bytes")
  }

  /// A number in the query.
  /// - Throws: `invalid_request` that names the parameter and its bounds.
  func queryInteger(_ name: String, in bounds: ClosedRange<Int>) throws(MartletError) -> Int? {
    guard let text = uri.queryParameters[Substring(name)] else { return nil }
    guard let number = Int(text), bounds.contains(number) else {
      throw MartletError(
        .invalidRequest, "\(name) must be a number between \(bounds.lowerBound) and \(bounds.upperBound)")
    }
    return number
  }
}
