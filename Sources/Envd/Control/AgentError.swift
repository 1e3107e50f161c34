import HTTPTypes
package import Hummingbird
import NIOCore

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
