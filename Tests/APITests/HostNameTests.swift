import NIOHTTP1
import TestSupport
import Testing

@testable import API

@Suite(.serialized) struct HostNameTests {
  private static let foreignHosts = [
    "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.9.8.7", "notlocalhost",
    "evil.example.", "[2001:db8::1]", "127.0.0.1@evil.example", "a b", "localhost:99999", "localhost:", "%6cocalhost",
  ]

  @Test("a request for a foreign name is refused before any route, and nothing happens", arguments: foreignHosts)
  func foreign(_ host: String) async throws {
    try await withServer { server async throws -> Void in
      // What a page whose name was rebound to the server's address would send.
      let headers = ["Host": host, "Origin": "http://\(host)"]
      let signUp = try await server.send(
        .POST, "/v1/auth/signup", json: #"{"email":"eve@b.c","password":"correct horse","name":"Eve"}"#,
        headers: headers, isAuthenticated: false)
      #expect(signUp.status == 421 && signUp.errorCode == "misdirected_request")
      let create = try await server.send(.POST, "/v1/sandboxes", json: "{}", headers: headers)
      #expect(create.status == 421)
      for path in ["/health", "/metrics", "/test", "/docs", "/openapi.yaml", "/v1/sandboxes", "/no/such/route"] {
        let response = try await server.send(.GET, path, headers: headers)
        #expect(response.status == 421, "\(path)")
      }
      #expect(try await server.send(.GET, "/v1/sandboxes").list.isEmpty)
      let logIn = try await server.send(
        .POST, "/v1/auth/login", json: #"{"email":"eve@b.c","password":"correct horse"}"#, isAuthenticated: false)
      #expect(logIn.status == 401, "the account was not created")
    }
  }

  @Test("loopback names, the listen address and public names are answered")
  func own() async throws {
    let names = try #require(Self.patterns("box.example.com", "other.example:8443", "*.wild.example"))
    try await withServer(publicNames: names) { server async throws -> Void in
      let own = [
        "localhost", "LOCALHOST:\(server.port)", "localhost.", "127.0.0.1", "127.8.8.8:1", "[::1]:80",
        "[::ffff:127.0.0.1]",
        "box.example.com", "BOX.example.com:\(server.port)", "other.example:8443", "other.example", "a.wild.example",
        "a.b.wild.example:1",
      ]
      for host in own {
        #expect(try await server.send(.GET, "/health", headers: ["Host": host]).status == 200, "\(host)")
      }
      for host in ["other.example:80", "wild.example", "box.example.com.evil.example", "xbox.example.com"] {
        #expect(try await server.send(.GET, "/health", headers: ["Host": host]).status == 421, "\(host)")
      }
    }
  }

  @Test("metrics are open to programs of this machine under loopback names, not to pages under a public name")
  func metrics() async throws {
    let names = try #require(Self.patterns("box.example.com", "*.wild.example"))
    try await withServer(publicNames: names) { server async throws -> Void in
      let admin = try await server.logInAsAdmin()
      for host in ["box.example.com", "a.wild.example:\(server.port)"] {
        func status(_ headers: [String: String] = [:]) async throws -> Int {
          let headers = headers.merging(["Host": host]) { $1 }
          return try await server.send(.GET, "/metrics", headers: headers, isAuthenticated: false).status
        }
        #expect(try await status() == 401, "\(host)")
        #expect(try await status(["Authorization": "Bearer \(admin.token)"]) == 200, "\(host)")
      }
      for host in ["localhost", "LOCALHOST:\(server.port)", "127.0.0.1:\(server.port)", "127.3.2.1", "[::1]:9"] {
        let response = try await server.send(.GET, "/metrics", headers: ["Host": host], isAuthenticated: false)
        #expect(response.status == 200, "\(host)")
      }
    }
  }

  @Test("a request without a Host is not valid")
  func missing() async throws {
    try await withServer { server async throws -> Void in
      let client = try await RawClient.connect(port: server.port)
      try await client.send("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
      #expect(try await client.readAll().hasPrefix("HTTP/1.1 400"))
      await client.close()
    }
  }

  @Test("pages of a public name are pages of the server; other ports of it, and loopback pages, are not")
  func origins() throws {
    let names = ServerNames(
      listenHost: "127.0.0.1", publicNames: try #require(Self.patterns("box.example.com", "other.example:8443")))
    #expect(names.isPublicOrigin("https://box.example.com") && names.isPublicOrigin("HTTP://BOX.example.com:80"))
    #expect(names.isPublicOrigin("https://other.example:8443"))
    let foreign = [
      "https://box.example.com:444", "https://other.example", "http://localhost:3000", "null", "https://evil.example",
      "",
      "ftp://box.example.com", "https://box.example.com/path", "https://",
    ]
    for origin in foreign { #expect(!names.isPublicOrigin(origin), "\(origin)") }
  }

  @Test(
    "a public name is a host name, an address or a wildcard of a domain",
    arguments: [
      "https://a.example", "a.example/", "*", "*.com", "*.10.0.0.1", "a..b", "", "a.example:0x1", "a:b:c", ".a",
    ])
  func malformed(_ text: String) {
    #expect(ServerNames.Pattern(text) == nil)
  }

  private static func patterns(_ texts: String...) -> Set<ServerNames.Pattern>? {
    let patterns = texts.compactMap(ServerNames.Pattern.init)
    return patterns.count == texts.count ? Set(patterns) : nil
  }
}
