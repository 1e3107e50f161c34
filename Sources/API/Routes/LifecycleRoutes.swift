import ControlPlane
import Hummingbird
import Model

/// `/v1/sandboxes/{id}/…`: pause, resume, fork, and the idle time-out.
struct LifecycleRoutes {
  let service: SandboxService

  func register(_ routes: RouteRegistrar) {
    routes.post("/sandboxes/:id/pause", pause)
    routes.post("/sandboxes/:id/resume", resume)
    routes.post("/sandboxes/:id/fork", fork)
    routes.post("/sandboxes/:id/ping", ping)
    routes.post("/sandboxes/:id/timeout", timeout)
  }

  @Sendable private func pause(_ request: Request, _ context: APIContext) async throws -> Response {
    JSONResponse.make(Wire.sandbox(try await service.pause(context.sandboxID(), for: context.caller())))
  }

  /// Resumes a sandbox; the body is optional.
  @Sendable private func resume(_ request: Request, _ context: APIContext) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    let fields = try JSONFields(try await request.json(), allowed: ["generation"])
    let previous =
      switch try fields.string("generation") {
      case nil, "latest": false
      case "previous": true
      default: throw MartletError(.invalidRequest, "generation must be latest or previous")
      }
    return JSONResponse.make(Wire.sandbox(try await service.resume(id, previous: previous, for: caller)))
  }

  @Sendable private func fork(_ request: Request, _ context: APIContext) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    let fields = try JSONFields(try await request.json(), allowed: ["count"])
    let forks = try await service.fork(id, count: try fields.integer("count") ?? 1, for: caller)
    return JSONResponse.make(.array(forks.map(Wire.sandbox)), status: .created)
  }

  @Sendable private func ping(_ request: Request, _ context: APIContext) async throws -> Response {
    try await service.ping(context.sandboxID(), for: context.caller())
    return JSONResponse.noContent
  }

  @Sendable private func timeout(_ request: Request, _ context: APIContext) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    let fields = try JSONFields(try await request.json(), allowed: ["timeout_sec"])
    guard let seconds = try fields.integer("timeout_sec") else {
      throw MartletError(.invalidRequest, "timeout_sec is required; 0 disables the idle time-out")
    }
    return JSONResponse.make(Wire.sandbox(try await service.setTimeout(seconds, of: id, for: caller)))
  }
}
