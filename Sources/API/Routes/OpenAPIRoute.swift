import HTTPTypes
import Hummingbird
import NIOCore

/// `GET /openapi.yaml`: the contract of every route (DOC-1). The file is part of the program.
struct OpenAPIRoute {
  /// The document as it is served.
  static let document = String(decoding: PackageResources.openapi_yaml, as: UTF8.self)

  func register(_ routes: RouteRegistrar) {
    let body = ByteBuffer(string: Self.document)
    routes.get("/openapi.yaml") { _, _ in
      Response(status: .ok, headers: [.contentType: "application/yaml"], body: ResponseBody(byteBuffer: body))
    }
  }
}
