package import ControlPlane
package import Hummingbird
import Model
package import NIOCore
package import Persistence

/// What a request carries through middleware and route.
package struct APIContext: RequestContext {
  package var coreContext: CoreRequestContextStorage
  package let channel: any Channel
  /// Set by `AuthenticationMiddleware`.
  package var principal: Principal?
  /// Set with it: one that the database had after the request came. What a request only reads may be of that version or
  /// a later one.
  package var version: DatabaseVersion?
  /// Set by `ClientMiddleware`.
  package var client: ClientAddress

  package init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
    client = ClientAddress(address: source.channel.remoteAddress?.ipAddress, isSecure: false)
  }

  var requestID: String { id }

  /// - Throws: `unauthorized` on a route that is not behind the authentication.
  func caller() throws(MartletError) -> Caller {
    guard let principal else {
      throw MartletError(.unauthorized, "an API key is needed; send it in the X-API-Key header")
    }
    return Caller(principal: principal, source: client.address)
  }

  /// - Throws: `invalid_request` for a malformed id (DB-3).
  func sandboxID() throws(MartletError) -> SandboxID {
    try id(SandboxKind.self)
  }

  /// An id in the path.
  /// - Throws: `invalid_request` for a malformed one or one of another kind (DB-3).
  func id<Kind: IdentifierKind>(_ kind: Kind.Type, _ name: String = "id") throws(MartletError) -> Identifier<Kind> {
    guard let id = Identifier<Kind>(wire: parameters.get(name) ?? "") else {
      throw MartletError(.invalidRequest, "the id must be \(Kind.prefix)- and a UUID in lower case")
    }
    return id
  }
}
