import HTTPTypes
import Hummingbird
import Model
package import NIOCore

/// Swagger UI's files. The build downloads them and puts them beside the program.
package struct DocumentationFiles: Sendable {
  /// Required files and their content types.
  package static let contentTypes = [
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8",
  ]

  let contents: [String: ByteBuffer]

  /// - Returns: nil if a file is missing.
  package init?(_ contents: [String: ByteBuffer]) {
    guard Self.contentTypes.keys.allSatisfy({ contents[$0] != nil }) else { return nil }
    self.contents = contents
  }
}

/// `GET /docs`: the OpenAPI document in Swagger UI, without access to the internet.
///
/// If Swagger UI's files are missing, the page explains how to install them.
struct DocumentationRoutes {
  private static let script = "docs.js"

  let files: DocumentationFiles?

  func register(_ routes: RouteRegistrar) {
    let assets = assets
    let page = page(assets)
    routes.get("/docs") { request, _ in page.response(to: request) }
    routes.get("/docs/:file") { request, context in
      guard let asset = assets[context.parameters.get("file") ?? ""] else {
        throw MartletError(.notFound, "the documentation has no such file; see /docs and /openapi.yaml")
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

  /// The HTML page. It refers to each file with its version, so that browsers cache the files for ever.
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
