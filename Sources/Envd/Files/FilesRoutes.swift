import Connect
package import ConnectServer
import FoundationEssentials
import HTTPTypes
package import Hummingbird
import Logging
import NIOCore

/// Registers the file routes: `/files`, `/files/compose`, and the service `filesystem.Filesystem`.
///
/// `/files` checks token and signature itself; the others rely on the agent's token check.
package func registerFileRoutes(
  on router: Router<AgentRequestContext>, connect: ConnectRouter<AgentRequestContext>, state: GuestState,
  users: UserDatabase
) {
  FilesRoutes(state: state, users: users).register(on: router)
  let service = FilesystemService(state: state, users: users)
  service.register(on: connect)
  WatchService(files: service, watchers: WatcherRegistry()).register(on: connect)
}

/// The plain HTTP routes `/files` and `/files/compose`.
///
/// Source: E2B's envd contract
struct FilesRoutes: Sendable {
  let state: GuestState
  let users: UserDatabase

  func register(on router: Router<AgentRequestContext>) {
    router.get("/files") { request, context in
      await respond(context) { try await download(request, on: context.channel.eventLoop, isHead: false) }
    }
    router.head("/files") { request, context in
      await respond(context) { try await download(request, on: context.channel.eventLoop, isHead: true) }
    }
    router.post("/files") { request, context in await respond(context) { try await upload(request) } }
    router.post("/files/compose") { request, context in await respond(context) { try await compose(request) } }
  }

  private func download(_ request: Request, on eventLoop: any EventLoop, isHead: Bool) async throws -> Response {
    let query = try FilesQuery(request.uri.query)
    let user = try authorize(request, query: query, operation: .read)
    let path = try LexicalPath.resolve(query.path ?? "", home: user.home, defaultWorkdir: state.defaultWorkdir)
    return try await FilesDownload(headers: request.headers, isHead: isHead, eventLoop: eventLoop).respond(path: path)
  }

  private func upload(_ request: Request) async throws -> Response {
    let query = try FilesQuery(request.uri.query)
    let user = try authorize(request, query: query, operation: .write)
    let metadata = try FileMetadata(headers: request.headers.map { ($0.name.canonicalName, $0.value) })
    let target = UploadTarget(
      user: user, defaultWorkdir: state.defaultWorkdir, requestedPath: query.path, metadata: metadata)
    return Self.json(try await UploadBody(request).receive(target: target))
  }

  private func compose(_ request: Request) async throws -> Response {
    if let token = state.accessToken {
      guard AccessToken.matches(AccessToken.presented(in: request), token) else {
        throw FileFailure(.unauthenticated, "the access token is missing or wrong")
      }
    }
    let body = try await request.body.collect(upTo: FilesCompose.maximumBodyBytes)
    guard let compose = try? JSONDecoder().decode(FilesCompose.self, from: Data(body.readableBytesView)) else {
      throw FileFailure(.invalidArgument, "the request body must be JSON with source_paths and destination")
    }
    let user = try users.user(named: compose.username ?? state.defaultUser)
    let workdir = state.defaultWorkdir
    return Self.json(try await FileThreads.run { try compose.run(user: user, defaultWorkdir: workdir) })
  }

  /// Authorizes the request and returns the user in whose name it acts.
  private func authorize(
    _ request: Request, query: FilesQuery, operation: AccessSignature.Operation
  ) throws -> GuestUser {
    let signature = AccessSignature(path: query.path ?? "", operation: operation, username: query.username)
    try signature.authorize(
      token: state.accessToken, presented: AccessToken.presented(in: request), query: query,
      now: Int64(Date().timeIntervalSince1970))
    return try users.user(named: query.username ?? state.defaultUser)
  }

  /// Maps errors to `{"code","message"}`. Logs internal errors, but not those of the client.
  private func respond(_ context: AgentRequestContext, _ body: () async throws -> Response) async -> Response {
    do {
      return try await body()
    } catch {
      let failure = FileFailure.describing(error)
      if failure.reason == .internalError {
        context.logger.error("file request failed", metadata: ["error": "\(error)"])
      }
      return Self.response(failure)
    }
  }

  static func response(_ failure: FileFailure) -> Response {
    let status = failure.reason.httpStatus
    return json(ErrorBody(code: status.code, message: failure.message), status: status)
  }

  private static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) -> Response {
    JSONBody.response(value, status: status, contentType: "application/json")
  }
}
