import Hummingbird
import NIOCore

/// `GET /test`: the console, a single HTML page that uses only the API. The file is embedded in the program.
struct ConsoleRoute {
  func register(_ routes: RouteRegistrar) {
    let html = String(decoding: PackageResources.console_html, as: UTF8.self)
    let page = StaticFile(
      ByteBuffer(string: html), contentType: "text/html; charset=utf-8", policy: PagePolicy.selfContained(html))
    routes.get("/test") { request, _ in page.response(to: request) }
  }
}
