package import ControlPlane
package import Hummingbird
import Model
package import NIOCore

/// What a request carries through middleware and route.
package struct APIContext: RequestContext {
  package var coreContext: CoreRequestContextStorage
  package let channel: any Channel
  /// Set by `AuthenticationMiddleware`.
  package var principal: Principal?

  package init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }

  var requestID: String { id }

  /// - Throws: `unauthorized` on a route that is not behind the authentication.
  func caller() throws(MartletError) -> Caller {
    guard let principal else { throw MartletError(.unauthorized, "an API key is needed; send it in the X-API-Key header") }
    return Caller(principal: principal, source: channel.remoteAddress?.ipAddress)
  }

  /// - Throws: `invalid_request` for a malformed id (DB-3).
  func sandboxID() throws(MartletError) -> SandboxID {
    guard let id = SandboxID(wire: parameters.get("id") ?? "") else {
      throw MartletError(.invalidRequest, "a sandbox id is sb- and a UUID in lower case")
    }
    return id
  }
}
