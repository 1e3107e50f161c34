import Concurrency
import Connect
import ConnectServer
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Protos
import SwiftProtobuf

/// The plain HTTP routes and the file service of the fake guest agent. The path selects the behaviour.
struct FakeGuestFiles: Sendable {
  private static let service = "filesystem.Filesystem"
  static let chunk = ByteBuffer(repeating: 7, count: 65_536)

  let record: FakeGuestAgent.Record

  func register(on router: Router<BasicConnectRequestContext>) {
    router.get("/health") { _, _ in Response(status: .noContent) }
    for path in ["/init", "/freeze", "/unfreeze"] {
      router.post(RouterPath(stringLiteral: path)) { request, _ in
        let body = try await request.body.collect(upTo: 65_536)
        record.requests.withLock { $0.append((request, body)) }
        return Response(status: .noContent)
      }
    }
    router.get("/metrics") { _, _ in
      json(
        #"{"ts":1700000000,"cpu_count":1,"cpu_used_pct":12.5,"mem_total":100,"mem_used":50,"#
          + #""disk_used":7,"disk_total":9,"new":1}"#
      )
    }
    router.get("/files") { request, context in download(request, context.channel.eventLoop) }
    router.post("/files") { request, _ in try await upload(request) }
    registerService(on: ConnectRouter(router))
  }

  private func download(_ request: Request, _ eventLoop: any EventLoop) -> Response {
    record.requests.withLock { $0.append((request, ByteBuffer())) }
    switch request.uri.queryParameters["path"] {
    case "missing": return refusal(.notFound, "path 'missing' does not exist")
    case "user": return refusal(.unauthorized, "invalid username: 'x'")
    case "short": return body(eventLoop, announced: 4 * 65_536, chunks: 2, fails: true)
    case "cut": return body(eventLoop, announced: nil, chunks: 2, fails: true)
    case "stall": return body(eventLoop, announced: 4 * 65_536, chunks: 1, stalls: true)
    case "big": return body(eventLoop, announced: 4_000 * 65_536, chunks: 4_000)
    case "unsized": return body(eventLoop, announced: nil, chunks: 3)
    default: return body(eventLoop, announced: 3 * 65_536, chunks: 3)
    }
  }

  private func body(
    _ eventLoop: any EventLoop, announced: Int?, chunks: Int, fails: Bool = false, stalls: Bool = false
  ) -> Response {
    let body = ResponseBody(contentLength: announced) { writer in
      for _ in 0..<chunks {
        try await writer.write(Self.chunk)
        // Lets the event loop see the written bytes; otherwise the writer would not notice a full connection.
        try await eventLoop.submit {}.get()
        record.written.withLock { $0 += 1 }
      }
      if stalls { try await Task.sleep(for: .seconds(60)) }
      if fails { throw ConnectError(.dataLoss, "the disk is gone") }
      try await writer.finish(nil)
    }
    return Response(status: .ok, headers: [.contentType: "application/octet-stream"], body: body)
  }

  private func upload(_ request: Request) async throws -> Response {
    switch request.uri.queryParameters["path"] {
    case "full": return refusal(.init(code: 507), "not enough disk space")
    case "sleep": try await Task.sleep(for: .seconds(60))
    default: break
    }
    var size = 0
    var checksum: UInt8 = 0
    for try await part in request.body {
      size += part.readableBytes
      checksum = part.readableBytesView.reduce(checksum, &+)
    }
    record.requests.withLock { $0.append((request, ByteBuffer(string: "\(size) \(checksum)"))) }
    return json(#"[{"path":"/a","name":"a","type":"file"}]"#)
  }

  private func json(_ text: String) -> Response {
    Response(
      status: .ok, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: ByteBuffer(string: text))
    )
  }

  private func refusal(_ status: HTTPResponse.Status, _ message: String) -> Response {
    let body = ByteBuffer(string: #"{"code":\#(status.code),"message":"\#(message)"}"#)
    return Response(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: body))
  }

  private func registerService(on router: ConnectRouter<BasicConnectRequestContext>) {
    router.unary(Self.service, "Stat") { (request: Filesystem_StatRequest, context) -> Filesystem_StatResponse in
      switch request.path {
      case "missing": throw ConnectError(.notFound, "path 'missing' does not exist")
      case "full": throw ConnectError(.resourceExhausted, "not enough disk space")
      case "whoami": return .with { $0.entry.owner = context.headers[.authorization] ?? "" }
      default: return .with { $0.entry = Self.link(request.path) }
      }
    }
    router.unary(Self.service, "ListDir") { (request: Filesystem_ListDirRequest, _) -> Filesystem_ListDirResponse in
      .with { $0.entries = (0..<request.depth).map { Self.file("\(request.path)/\($0)") } }
    }
    router.unary(Self.service, "MakeDir") { (request: Filesystem_MakeDirRequest, _) -> Filesystem_MakeDirResponse in
      guard request.path != "there" else { throw ConnectError(.alreadyExists, "it exists") }
      return .with { $0.entry = Self.file(request.path) }
    }
    router.unary(Self.service, "Move") { (request: Filesystem_MoveRequest, _) -> Filesystem_MoveResponse in
      .with { $0.entry = Self.file(request.destination) }
    }
    router.unary(Self.service, "Remove") { (_: Filesystem_RemoveRequest, _) in Filesystem_RemoveResponse() }
  }

  private static func file(_ path: String) -> Filesystem_EntryInfo {
    .with {
      $0.name = "a"
      $0.path = path
      $0.type = .file
      $0.size = 5_000_000_000
      $0.mode = 0o644
      $0.permissions = "-rw-r--r--"
      $0.modifiedTime = .init(seconds: 1_700_000_000, nanos: 500_000_000)
    }
  }

  private static func link(_ path: String) -> Filesystem_EntryInfo {
    var entry = file(path)
    entry.symlinkTarget = "/b"
    return entry
  }
}
