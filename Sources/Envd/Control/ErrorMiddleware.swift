import HTTPTypes
package import Hummingbird
import Logging

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
