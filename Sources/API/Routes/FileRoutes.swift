import ControlPlane
import HTTPTypes
import HostAPI
import Hummingbird
import Model
import NIOCore

/// `/v1/sandboxes/{id}/files/…`: files of a sandbox.
struct FileRoutes {
  let service: SandboxService

  func register(_ routes: RouteRegistrar) {
    let files = "/sandboxes/:id/files"
    routes.post("\(files)/write") { try await write($0, $1, maximumBytes: Limits.plainFileBytes) }
    routes.post("\(files)/stream/write") { try await write($0, $1, maximumBytes: nil) }
    routes.post("\(files)/read") { try await read($0, $1, maximumBytes: Limits.plainFileBytes) }
    routes.post("\(files)/stream/read") { try await read($0, $1, maximumBytes: nil) }
    routes.post("\(files)/list", list)
    routes.post("\(files)/mkdir", makeDirectory)
    routes.post("\(files)/remove", remove)
    routes.post("\(files)/rename", rename)
    routes.post("\(files)/stat", stat)
  }

  // MARK: Contents

  private func write(_ request: Request, _ context: APIContext, maximumBytes: Int?) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    let target = try await service.fileTarget(in: id, for: caller)
    let upload = try FileUpload(request, maximumFileBytes: maximumBytes)
    let fields = try await upload.fieldsBeforeFile(known: ["path", "user"])
    guard let path = fields["path"] else {
      throw MartletError(.invalidRequest, "the form part path is required, before the part file")
    }
    let file = try GuestFile(path: path, user: fields["user"])
    try await service.write(FileUploadContent(upload: upload), to: file, target, for: caller)
    return JSONResponse.noContent
  }

  private func read(_ request: Request, _ context: APIContext, maximumBytes: Int?) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    let fields = try JSONFields(try await request.json(), allowed: ["path", "user"])
    let download = try await service.read(try Self.file(fields), in: id, for: caller)
    if let maximumBytes, let size = download.sizeBytes, size > maximumBytes {
      throw MartletError(
        .tooLarge, "the file has \(size) bytes, this route sends at most \(maximumBytes); use files/stream/read")
    }
    return Response(
      status: .ok, headers: [.contentType: "application/octet-stream"],
      body: Self.body(download, maximumBytes: maximumBytes.map(Int64.init), eventLoop: context.channel.eventLoop))
  }

  /// Bound of the bytes that are queued for the connection's event loop. NIO's writer sees a full connection only on
  /// the event loop, so without this bound a fast guest could queue any amount of memory before the loop runs.
  private static let maximumQueuedBytes = 524_288

  /// Streams a download. After the response head has been sent, an error can only be signalled by closing the
  /// connection: with fewer bytes than the Content-Length, or without the last chunk.
  private static func body(_ download: FileDownload, maximumBytes: Int64?, eventLoop: any EventLoop) -> ResponseBody {
    ResponseBody(contentLength: download.sizeBytes.map { Int($0) }) { writer in
      var sent: Int64 = 0
      var queuedBytes = 0
      for try await chunk in download.body {
        sent += Int64(chunk.readableBytes)
        guard sent <= min(maximumBytes ?? .max, download.sizeBytes ?? .max) else {
          throw MartletError(.agentError, "the file is longer than announced")
        }
        queuedBytes += chunk.readableBytes
        try await writer.write(chunk)
        if queuedBytes > maximumQueuedBytes {
          try await eventLoop.submit {}.get()
          queuedBytes = 0
        }
      }
      if let size = download.sizeBytes, sent < size {
        throw MartletError(.agentError, "the file is shorter than announced")
      }
      try await writer.finish(nil)
    }
  }

  // MARK: Directories and metadata

  @Sendable private func list(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try JSONFields(try await request.json(), allowed: ["path", "depth", "user"])
    let depth = try fields.integer("depth") ?? 1
    let entries = try await service.list(
      try Self.file(fields), depth: depth, in: context.sandboxID(), for: context.caller())
    return JSONResponse.make(.array(entries.map(Wire.entry)))
  }

  @Sendable private func makeDirectory(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try JSONFields(try await request.json(), allowed: ["path", "user"])
    let entry = try await service.makeDirectory(try Self.file(fields), in: context.sandboxID(), for: context.caller())
    return JSONResponse.make(Wire.entry(entry), status: .created)
  }

  @Sendable private func remove(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try JSONFields(try await request.json(), allowed: ["path", "user"])
    try await service.remove(try Self.file(fields), in: context.sandboxID(), for: context.caller())
    return JSONResponse.noContent
  }

  @Sendable private func rename(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try JSONFields(try await request.json(), allowed: ["from", "to", "user"])
    let user = try fields.string("user")
    let source = try GuestFile(path: try fields.requiredString("from"), field: "from", user: user)
    let destination = try GuestFile(path: try fields.requiredString("to"), field: "to", user: user)
    let entry = try await service.rename(source, to: destination, in: context.sandboxID(), for: context.caller())
    return JSONResponse.make(Wire.entry(entry))
  }

  @Sendable private func stat(_ request: Request, _ context: APIContext) async throws -> Response {
    let fields = try JSONFields(try await request.json(), allowed: ["path", "user"])
    return JSONResponse.make(
      Wire.entry(try await service.status(try Self.file(fields), in: context.sandboxID(), for: context.caller())))
  }

  private static func file(_ fields: JSONFields) throws(MartletError) -> GuestFile {
    try GuestFile(path: try fields.requiredString("path"), user: try fields.string("user"))
  }
}
