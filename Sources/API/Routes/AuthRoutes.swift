import ControlPlane
import HTTPTypes
import Hummingbird
import Model
import Persistence

/// `/v1/auth` and `/v1/me`: sign-up, log-in, log-out and the caller's own account.
struct AuthRoutes {
  /// Bound of a request body on these routes.
  private static let maximumBodyBytes = 16_384

  let accounts: AccountService
  let origins: OriginPolicy

  func register(open: RouteRegistrar, _ users: RouteRegistrar) {
    open.post("/auth/signup", signUp)
    open.post("/auth/login", logIn)
    open.post("/auth/logout", logOut)
    users.post("/auth/switch-team", switchTeam)
    users.get("/me", profile)
    users.patch("/me", updateProfile)
    users.post("/me/password", changePassword)
  }

  @Sendable private func signUp(_ request: Request, _ context: APIContext) async throws -> Response {
    try refuseOtherOrigins(request, context)
    let fields = try await fields(request, ["email", "password", "name"])
    let session = try await accounts.signUp(
      email: try fields.requiredString("email"), password: try fields.requiredString("password"),
      name: try fields.requiredString("name"), source: context.client.address)
    return response(session, .created, request, context)
  }

  @Sendable private func logIn(_ request: Request, _ context: APIContext) async throws -> Response {
    try refuseOtherOrigins(request, context)
    let fields = try await fields(request, ["email", "password"])
    let session = try await accounts.logIn(
      email: try fields.requiredString("email"), password: try fields.requiredString("password"),
      source: context.client.address)
    return response(session, .ok, request, context)
  }

  /// Deletes the browser's session cookie. The token itself stays valid until it expires or the password changes.
  @Sendable private func logOut(_ request: Request, _ context: APIContext) async throws -> Response {
    try refuseOtherOrigins(request, context)
    var response = JSONResponse.noContent
    response.headers[.setCookie] = SessionCookie.expired(isSecure: context.client.isSecure)
    return response
  }

  @Sendable private func switchTeam(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try await fields(request, ["team_id"])
    guard let team = TeamID(wire: try fields.requiredString("team_id")) else {
      throw MartletError(.invalidRequest, "team_id must be team- and a UUID in lower case")
    }
    return response(try await accounts.switchTeam(to: team, for: context.caller()), .ok, request, context)
  }

  @Sendable private func profile(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.caller()
    return JSONResponse.make(Self.json(try await accounts.profile(of: caller), caller))
  }

  @Sendable private func updateProfile(_ request: Request, _ context: APIContext) async throws -> Response {
    let caller = try context.caller()
    let fields = try await fields(request, ["email", "name", "password"])
    let profile = try await accounts.updateProfile(
      of: caller, email: try fields.string("email"), name: try fields.string("name"),
      password: try fields.string("password"))
    return JSONResponse.make(Self.json(profile, caller))
  }

  @Sendable private func changePassword(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try await fields(request, ["current_password", "new_password"])
    let session = try await accounts.changePassword(
      of: try context.caller(), from: try fields.requiredString("current_password"),
      to: try fields.requiredString("new_password"))
    return response(session, .ok, request, context)
  }

  private func fields(_ request: Request, _ allowed: [String]) async throws -> JSONFields {
    try JSONFields(try await request.json(upTo: Self.maximumBodyBytes), allowed: allowed)
  }

  /// Responds with the session's token. Sets the session cookie too if a page of the server's own origin sent the
  /// request.
  private func response(
    _ session: Session, _ status: HTTPResponse.Status, _ request: Request, _ context: APIContext
  ) -> Response {
    var response = JSONResponse.make(Wire.session(session), status: status)
    if origins.isOwnOrigin(request, context) {
      response.headers[.setCookie] = SessionCookie.header(session, isSecure: context.client.isSecure)
    }
    return response
  }

  /// Refuses pages of other origins, so that they cannot log their visitors in to another account (login CSRF).
  private func refuseOtherOrigins(_ request: Request, _ context: APIContext) throws(MartletError) {
    guard request.headers[.origin] != nil else { return }
    guard origins.isOwnOrigin(request, context) else {
      throw MartletError(.forbidden, "pages of this origin may not log in; use the server's own pages")
    }
  }

  private static func json(_ profile: Profile, _ caller: Caller) -> JSONValue {
    Wire.profile(profile).adding("team_id", .string(caller.teamID.wire))
      .adding("role", .optional(caller.principal.role?.rawValue))
  }
}
