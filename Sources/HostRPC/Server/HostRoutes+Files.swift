import Connect
import ConnectServer
import HTTPTypes
import HostAPI
import Hummingbird
import HummingbirdCore
import Model
import NIOCore
import Protos
import SwiftProtobuf

extension HostRoutes {
  /// Registers file uploads, which are plain HTTP requests.
  func registerFiles(on router: Router<BasicConnectRequestContext>) {
    router.put(RouterPath(stringLiteral: HostFilesRoute.path)) { request, _ in await writeFile(request) }
  }

  private func writeFile(_ request: Request) async -> Response {
    do {
      try await mappingErrors(.writeFile) {
        let file = try Host_FileRequest(
          queryValue: request.uri.queryParameters[Substring(HostFilesRoute.parameter)].map { String($0) } ?? "")
        try await host.writeFile(
          file.path, user: file.optionalUser, body: UnframedContent(request.body),
          in: WireField.id(file.sandboxID, "sandbox_id"))
      }
      return Response(status: .noContent)
    } catch {
      return Response(error as? ConnectError ?? ConnectError(.internalError, "an internal error occurred"))
    }
  }

  func registerDirectories(on router: ConnectRouter<BasicConnectRequestContext>) {
    let host = host
    router.serverStream(HostMethod.service, HostMethod.readFile.rawValue) {
      (request: Host_FileRequest, _, writer: ConnectWriter<Host_ReadFileEvent>) in
      try await mappingErrors(.readFile) {
        try await withKeepAlives(writer, .with { $0.keepalive = Host_KeepAlive() }) { try await send(request, writer) }
      }
    }
    unary(.listDirectory, on: router) { (request: Host_ListDirectoryRequest) in
      let entries = try await host.listDirectory(
        request.path, depth: Int(request.depth), user: request.hasUser ? request.user : nil,
        in: WireField.id(request.sandboxID, "sandbox_id"))
      return Host_ListDirectoryResponse.with { $0.entries = entries.map { Host_FileEntry($0) } }
    }
    unary(.getFileStatus, on: router) { (request: Host_FileRequest) in
      Host_FileEntry(try await host.fileStatus(request.path, user: request.optionalUser, in: request.id()))
    }
    unary(.makeDirectory, on: router) { (request: Host_FileRequest) in
      Host_FileEntry(try await host.makeDirectory(request.path, user: request.optionalUser, in: request.id()))
    }
    unary(.renameFile, on: router) { (request: Host_RenameFileRequest) in
      Host_FileEntry(
        try await host.renameFile(
          from: request.source, to: request.destination, user: request.hasUser ? request.user : nil,
          in: WireField.id(request.sandboxID, "sandbox_id")))
    }
    unary(.removeFile, on: router) { (request: Host_FileRequest) in
      try await host.removeFile(request.path, user: request.optionalUser, in: request.id())
      return Host_Done()
    }
  }

  private func send(_ request: Host_FileRequest, _ writer: ConnectWriter<Host_ReadFileEvent>) async throws {
    let download = try await host.readFile(request.path, user: request.optionalUser, in: request.id())
    var opened = Host_ReadFileEvent()
    opened.opened = .with { if let size = download.sizeBytes { $0.sizeBytes = size } }
    try await writer.write(opened)
    for try await chunk in download.body {
      for piece in chunk.pieces { try await writer.write(.with { $0.data = piece.foundationData }) }
    }
    try Task.checkCancellation()
  }
}

extension Host_FileRequest {
  func id() throws -> SandboxID { try WireField.id(sandboxID, "sandbox_id") }
}
