import Connect
import ConnectServer
import HTTPTypes
import Hummingbird
import Logging
import Model

/// Refuses calls that are not signed with the host's secret, before it reads more of the request than its head. Signs
/// the head of every response.
struct CallGate: RouterMiddleware {
  typealias Context = BasicConnectRequestContext

  let verifier: CallVerifier
  /// The installation that the host obeys; nil: any.
  let installation: InstallationID?

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let signature: CallSignature
    do {
      signature = try check(request)
    } catch {
      context.logger.notice(
        "call refused", metadata: [LogKey.reason: "\(error)", LogKey.path: "\(request.uri.path.prefix(128))"])
      return Self.refusal(error)
    }
    var response =
      isForeign(signature) ? foreignResponse(context) : try await respond(request, context, next)
    response.headers[Self.responseName] = signature.responseMAC(status: response.status.code, with: verifier.secret)
    return response
  }

  private func check(_ request: Request) throws(CallVerifier.Refusal) -> CallSignature {
    let headers = request.headers
    guard let target = request.head.path, let time = headers[Self.timeName], let nonce = headers[Self.nonceName],
      let mac = headers[Self.macName]
    else { throw .malformed }
    let signature = CallSignature(time: time, nonce: nonce, installation: headers[Self.installationName], mac: mac)
    try verifier.verify(signature, request.method.rawValue, target)
    return signature
  }

  /// Whether the call is made for the database of another installation, or does not name one.
  private func isForeign(_ signature: CallSignature) -> Bool {
    installation.map { signature.installation != $0.wire } ?? false
  }

  private func foreignResponse(_ context: Context) -> Response {
    context.logger.error("call for another installation refused")
    return Response(
      HostErrors.connectError(
        MartletError(
          .wrongInstallation,
          "the sandbox's host belongs to another installation than this server's database; nothing was changed")))
  }

  /// The response of the routes, including those for errors, which must be signed too.
  private func respond(
    _ request: Request, _ context: Context, _ next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    do {
      return try await next(request, context)
    } catch let error as any HTTPResponseError {
      return try error.response(from: request, context: context)
    }
  }

  /// The response to an unauthenticated call, with the same text for all reasons but one. Not signed, as the caller
  /// does not share the secret.
  private static func refusal(_ reason: CallVerifier.Refusal) -> Response {
    switch reason {
    case .tooMany: Response(ConnectError(.unavailable, "the host receives too many calls at the moment"))
    default: Response(ConnectError(.unauthenticated, "the call is not signed with this host's secret"))
    }
  }

  private static let timeName = name(CallSignature.timeHeader)
  private static let nonceName = name(CallSignature.nonceHeader)
  private static let installationName = name(CallSignature.installationHeader)
  private static let macName = name(CallSignature.macHeader)
  private static let responseName = name(CallSignature.responseHeader)

  private static func name(_ text: String) -> HTTPField.Name {
    guard let name = HTTPField.Name(text) else { preconditionFailure("\(text) is not a header name") }
    return name
  }
}
