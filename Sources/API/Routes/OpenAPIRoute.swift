import HTTPTypes
import Hummingbird
import NIOCore

/// `GET /openapi.yaml`: the OpenAPI document of all routes. The file is embedded in the program.
struct OpenAPIRoute {
  /// The served document.
  static let document = String(decoding: PackageResources.openapi_yaml, as: UTF8.self)

  func register(_ routes: RouteRegistrar) {
    let body = ByteBuffer(string: Self.document)
    routes.get("/openapi.yaml") { _, _ in
      Response(status: .ok, headers: [.contentType: "application/yaml"], body: ResponseBody(byteBuffer: body))
    }
  }
}
