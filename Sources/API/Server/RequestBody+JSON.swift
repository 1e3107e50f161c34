import HTTPTypes
import Hummingbird
import Model
import NIOCore

extension Request {
  /// Time within which a body that is collected in memory must arrive.
  private static let bodyDeadline: Duration = .seconds(30)
  private static let tooSlow = MartletError(.invalidRequest, "the request body took longer than 30 seconds to arrive")

  /// Reads a JSON body; an empty body counts as `{}`.
  /// - Throws: `too_large` (before the body is read if the Content-Length exceeds the limit); `invalid_request` for
  ///   malformed JSON or a body that arrives too slowly.
  func json(upTo limit: Int = Limits.requestBodyBytes) async throws -> JSONValue {
    try refuseLongerThan(limit)
    let bytes: ByteBuffer
    do {
      bytes = try await wholeBody(upTo: limit)
    } catch is NIOTooManyBytesError {
      throw Self.tooLarge(limit)
    }
    guard bytes.readableBytes > 0 else { return [:] }
    return try JSONParser.parse(bytes.readableBytesView)
  }

  /// Collects the body. The deadline ensures that a request is not executed long after its caller was authorized.
  private func wholeBody(upTo limit: Int) async throws -> ByteBuffer {
    try await withThrowingTaskGroup(of: ByteBuffer.self) { [body] group in
      group.addTask { try await body.collect(upTo: limit) }
      group.addTask {
        try await Task.sleep(for: Self.bodyDeadline)
        throw Self.tooSlow
      }
      defer { group.cancelAll() }
      guard let bytes = try await group.next() else { throw Self.tooSlow }
      return bytes
    }
  }

  func refuseLongerThan(_ limit: Int) throws(MartletError) {
    guard let field = headers[.contentLength] else { return }
    guard let length = Int(field), length <= limit else { throw Self.tooLarge(limit) }
  }

  private static func tooLarge(_ limit: Int) -> MartletError {
    MartletError(.tooLarge, "the request body may have at most \(limit) bytes")
  }

  /// A number in the query string.
  /// - Throws: `invalid_request` with the parameter's name and bounds.
  func queryInteger(_ name: String, in bounds: ClosedRange<Int>) throws(MartletError) -> Int? {
    guard let text = uri.queryParameters[Substring(name)] else { return nil }
    guard let number = Int(text), bounds.contains(number) else {
      throw MartletError(
        .invalidRequest, "\(name) must be a number between \(bounds.lowerBound) and \(bounds.upperBound)")
    }
    return number
  }
}
