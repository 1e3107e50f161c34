package import ControlPlane
package import Hummingbird
import Model
package import NIOCore
package import Persistence

/// The context of one request, passed through the middleware to the route.
package struct APIContext: RequestContext {
  package var coreContext: CoreRequestContextStorage
  package let channel: any Channel
  /// The authenticated caller; set by `AuthenticationMiddleware`.
  package var principal: Principal?
  /// The database version that authentication read; set together with `principal`.
  ///
  /// The database had this version after the request arrived, so a read-only request may use cached data of this
  /// version or a later one.
  package var version: DatabaseVersion?
  /// Address of the client; `ClientMiddleware` replaces the connection's address if a trusted proxy forwards the
  /// request.
  package var client: ClientAddress

  package init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
    client = ClientAddress(address: source.channel.remoteAddress?.ipAddress, isSecure: false)
  }

  var requestID: String { id }

  /// - Throws: `unauthorized` on a route without `AuthenticationMiddleware`.
  func caller() throws(MartletError) -> Caller {
    guard let principal else {
      throw MartletError(.unauthorized, "this route needs credentials; send an API key in the X-API-Key header")
    }
    return Caller(principal: principal, source: client.address)
  }

  /// The sandbox id in the path.
  /// - Throws: `invalid_request` for a malformed id.
  func sandboxID() throws(MartletError) -> SandboxID {
    try id(SandboxKind.self)
  }

  /// An id in the path.
  /// - Throws: `invalid_request` for a malformed id or an id of another kind.
  func id<Kind: IdentifierKind>(_ kind: Kind.Type, _ name: String = "id") throws(MartletError) -> Identifier<Kind> {
    guard let id = Identifier<Kind>(wire: parameters.get(name) ?? "") else {
      throw MartletError(.invalidRequest, "the id must be \(Kind.prefix)- and a UUID in lower case")
    }
    return id
  }
}
