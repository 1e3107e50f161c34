import FoundationEssentials
import HTTPTypes
package import Hummingbird
import Logging
import NIOCore

/// JSON bodies of the plain HTTP routes.
enum JSONBody {
  /// Longest body of a control request. The sandbox's environment is its largest part.
  static let maximumBytes = 4 * 1024 * 1024

  static func response(
    _ value: some Encodable, status: HTTPResponse.Status = .ok, contentType: String = "application/json; charset=utf-8"
  ) -> Response {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let bytes = try? encoder.encode(value) else { return Response(status: .internalServerError) }
    return Response(
      status: status, headers: [.contentType: contentType],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }

  /// Decodes the request's body. An empty body means `{}`.
  /// - Throws: `AgentError` 400 when the body is not a valid object, 413 when it is too long.
  static func decode<Value: Decodable>(_ type: Value.Type, from request: Request) async throws -> Value {
    let body: ByteBuffer
    do {
      body = try await request.body.collect(upTo: maximumBytes)
    } catch is NIOTooManyBytesError {
      throw AgentError(.contentTooLarge, "the body is longer than \(maximumBytes) bytes")
    }
    let bytes = body.readableBytes == 0 ? Data("{}".utf8) : Data(body.readableBytesView)
    do {
      return try JSONDecoder().decode(type, from: bytes)
    } catch {
      throw AgentError(.badRequest, "the body is not the JSON object that this route takes: \(describe(error))")
    }
  }

  private static func describe(_ error: any Error) -> String {
    guard let error = error as? DecodingError else { return "malformed JSON" }
    switch error {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
      .dataCorrupted(let context):
      let path = context.codingPath.map(\.stringValue).joined(separator: ".")
      return path.isEmpty ? "malformed JSON" : "'\(path)' has the wrong type or value"
    @unknown default: return "malformed JSON"
    }
  }
}

/// Body of an error response of the plain HTTP routes. Source: E2B's envd contract
struct ErrorBody: Encodable {
  let code: Int
  let message: String
}

/// An error of the plain HTTP routes: a status and a sentence, sent as `{"code","message"}`. Source: E2B's envd
/// contract
package struct AgentError: Error, Sendable, Equatable, HTTPResponseError {
  package let status: HTTPResponse.Status
  package let message: String

  package init(_ status: HTTPResponse.Status, _ message: String) {
    self.status = status
    self.message = message
  }

  package func response(from request: Request, context: some RequestContext) -> Response { response }

  package var response: Response {
    JSONBody.response(ErrorBody(code: status.code, message: message), status: status)
  }
}

/// Turns every error, including those of unknown routes, into the error format of the contract.
package struct ErrorMiddleware: RouterMiddleware {
  package typealias Context = AgentRequestContext

  package init() {}

  package func handle(
    _ request: Request, context: AgentRequestContext, next: (Request, AgentRequestContext) async throws -> Response
  ) async throws -> Response {
    do {
      return try await next(request, context)
    } catch let error as AgentError {
      return error.response
    } catch let error as HTTPError {
      var response = AgentError(error.status, error.body ?? error.status.reasonPhrase.lowercased()).response
      response.headers.append(contentsOf: error.headers)
      return response
    } catch let error as any HTTPResponseError {
      // Errors of other modules make their own response.
      return try error.response(from: request, context: context)
    } catch is CancellationError {
      throw CancellationError()
    } catch {
      context.logger.error("request failed", metadata: ["error": "\(error)", "path": "\(request.uri.path)"])
      return AgentError(.internalServerError, "an internal error occurred").response
    }
  }
}
