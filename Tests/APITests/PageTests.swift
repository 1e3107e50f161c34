import API
import Crypto
import Foundation
import NIOCore
import NIOHTTP1
import Testing

/// The server's HTML pages `/test` and `/docs`.
@Suite struct PageTests {
  private static var files: DocumentationFiles? {
    DocumentationFiles([
      "swagger-ui-bundle.js": ByteBuffer(string: "script"), "swagger-ui.css": ByteBuffer(string: "style"),
    ])
  }

  private func part(_ element: String, of html: String) throws -> String {
    let start = try #require(html.range(of: "<\(element)>"))
    let end = try #require(html.range(of: "</\(element)>", range: start.upperBound..<html.endIndex))
    return String(html[start.upperBound..<end.lowerBound])
  }

  private func digest(_ text: String) -> String {
    "'sha256-\(Data(SHA256.hash(data: Data(text.utf8))).base64EncodedString())'"
  }

  @Test("the console is one page, and its policy permits only its own script and style")
  func console() async throws {
    try await withServer { server async throws -> Void in
      let response = try await server.send(.GET, "/test", isAuthenticated: false)
      #expect(response.status == 200 && response.headers.first(name: "Content-Type") == "text/html; charset=utf-8")
      let policy = try #require(response.headers.first(name: "Content-Security-Policy"))
      let directives = policy.split(separator: "; ").map(String.init)
      #expect(directives.first == "default-src 'none'" && !policy.contains("unsafe"))
      #expect(directives.contains("script-src \(digest(try part("script", of: response.text)))"))
      #expect(directives.contains("style-src \(digest(try part("style", of: response.text)))"))
      #expect(directives.contains("connect-src 'self'") && directives.contains("frame-ancestors 'none'"))
      for word in [
        "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=\"", " onclick=\"",
      ] {
        #expect(!response.text.contains(word), "\(word) would let data become markup, or is refused by the policy")
      }
      for match in response.text.matches(of: /(?:src|href)="([^"]*)"/) {
        #expect(["data:", "/", "#"].contains { match.1.hasPrefix($0) }, "\(match.1) refers to another server")
      }
    }
  }

  @Test("a page that the browser has cached is not sent again", arguments: ["/test", "/docs"])
  func unchanged(path: String) async throws {
    try await withServer(documentation: Self.files) { server async throws -> Void in
      let tag = try #require(try await server.send(.GET, path, isAuthenticated: false).headers.first(name: "ETag"))
      for known in [tag, "\"other\", \(tag)"] {
        let response = try await server.send(.GET, path, headers: ["If-None-Match": known], isAuthenticated: false)
        #expect(
          response.status == 304 && response.body.readableBytes == 0 && response.headers.first(name: "ETag") == tag)
      }
      let other = try await server.send(.GET, path, headers: ["If-None-Match": "\"other\""], isAuthenticated: false)
      #expect(other.status == 200 && other.headers.first(name: "Cache-Control") == "no-cache")
    }
  }

  @Test("documentation files may be cached for ever only under their version")
  func assets() async throws {
    try await withServer(documentation: Self.files) { server async throws -> Void in
      let page = try await server.send(.GET, "/docs", isAuthenticated: false)
      #expect(page.status == 200 && page.headers.first(name: "Content-Security-Policy")?.contains("unsafe") == false)
      let links = page.text.matches(of: /"(\/docs\/[^"]+)"/).map { String($0.1) }
      #expect(links.count == 3)
      for link in links {
        let response = try await server.send(.GET, link, isAuthenticated: false)
        #expect(
          response.status == 200
            && response.headers.first(name: "Cache-Control") == "public, max-age=31536000, "
              + "immutable",
          "\(link)")
        let type = link.contains(".css") ? "text/css; charset=utf-8" : "text/javascript; charset=utf-8"
        #expect(response.headers.first(name: "Content-Type") == type)
        let plain = try await server.send(.GET, String(link.prefix { $0 != "?" }), isAuthenticated: false)
        #expect(
          plain.status == 200 && plain.headers.first(name: "Cache-Control") == "no-cache" && plain.body == response.body
        )
      }
      for name in ["index.html", "..%2fopenapi.yaml", "%00", "docs.js%00"] {
        let response = try await server.send(.GET, "/docs/\(name)", isAuthenticated: false)
        #expect(response.status == 404 && response.errorCode == "not_found", "\(name)")
      }
    }
  }

  @Test("without Swagger UI's files the documentation page explains how to install them")
  func missing() async throws {
    try await withServer { server async throws -> Void in
      let page = try await server.send(.GET, "/docs", isAuthenticated: false)
      #expect(page.status == 200 && page.text.contains("make docs-ui") && page.text.contains("/openapi.yaml"))
      #expect(try await server.send(.GET, "/docs/swagger-ui.css", isAuthenticated: false).status == 404)
    }
    #expect(DocumentationFiles(["swagger-ui.css": ByteBuffer(string: "style")]) == nil)
  }
}
