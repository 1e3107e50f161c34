import HTTPTypes
import Hummingbird
import Model
package import NIOCore

/// Swagger UI's own files, which come from a package when Martlet is built and lie beside it.
package struct DocumentationFiles: Sendable {
  /// What there must be, and what it is.
  package static let contentTypes = [
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8",
  ]

  let contents: [String: ByteBuffer]

  /// - Returns: nil when a file is missing.
  package init?(_ contents: [String: ByteBuffer]) {
    guard Self.contentTypes.keys.allSatisfy({ contents[$0] != nil }) else { return nil }
    self.contents = contents
  }
}

/// `GET /docs`: the OpenAPI document in Swagger UI, without the internet (DOC-1).
///
/// Where Swagger UI's files are missing, the page says how to get them.
struct DocumentationRoutes {
  private static let script = "docs.js"

  let files: DocumentationFiles?

  func register(_ routes: RouteRegistrar) {
    let assets = assets
    let page = page(assets)
    routes.get("/docs") { request, _ in page.response(to: request) }
    routes.get("/docs/:file") { request, context in
      guard let asset = assets[context.parameters.get("file") ?? ""] else {
        throw MartletError(.notFound, "the documentation has no such file; its page is /docs, its source /openapi.yaml")
      }
      return asset.response(to: request)
    }
  }

  private var assets: [String: StaticFile] {
    guard let files else { return [:] }
    var assets = [
      Self.script: StaticFile(
        ByteBuffer(bytes: PackageResources.docs_js), contentType: "text/javascript; charset=utf-8")
    ]
    for (name, type) in DocumentationFiles.contentTypes {
      assets[name] = files.contents[name].map { StaticFile($0, contentType: type) }
    }
    return assets
  }

  /// Names its files with their versions, so that browsers ask for each of them once.
  private func page(_ assets: [String: StaticFile]) -> StaticFile {
    guard !assets.isEmpty else { return Self.page(PackageResources.docs_missing_html) { PagePolicy.selfContained($0) } }
    return Self.page(PackageResources.docs_html, assets) { _ in PagePolicy.documentation }
  }

  private static func page(
    _ bytes: [UInt8], _ assets: [String: StaticFile] = [:], _ policy: (String) -> String
  ) -> StaticFile {
    let html = assets.reduce(String(decoding: bytes, as: UTF8.self)) { html, asset in
      html.replacing("/docs/\(asset.key)", with: "/docs/\(asset.key)?v=\(asset.value.tag)")
    }
    return StaticFile(ByteBuffer(string: html), contentType: "text/html; charset=utf-8", policy: policy(html))
  }
}
