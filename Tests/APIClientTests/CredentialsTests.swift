import Foundation
import Model
import Testing

@testable import APIClient

@Suite("Credentials")
struct CredentialsTests {
  private static let local =
    #"{"url":"http://127.0.0.1:8080","api_key":"mrt_local","admin_email":"a@b","admin_password":"x"}"#

  private func discovery(_ environment: [String: String] = [:], files: [String: String] = [:]) -> CredentialsDiscovery {
    CredentialsDiscovery(environment: environment) { path in files[path].map { .data(Data($0.utf8)) } ?? .missing }
  }

  @Test("options take precedence over the environment, and the environment over files")
  func precedence() throws {
    let files = ["/var/lib/martlet/credentials.json": Self.local]
    let environment = ["MARTLET_URL": "http://127.0.0.1:9001", "MARTLET_API_KEY": "mrt_environment"]
    let byOption = try discovery(environment, files: files).find(url: "http://10.0.0.1:1", apiKey: "mrt_option")
    #expect(byOption.endpoint.description == "http://10.0.0.1:1")
    #expect(byOption.apiKey == "mrt_option")
    #expect(try discovery(environment, files: files).find(url: nil, apiKey: nil).apiKey == "mrt_environment")
    #expect(try discovery(files: files).find(url: nil, apiKey: nil).apiKey == "mrt_local")
  }

  @Test("the data directory is searched before the configuration directory")
  func order() throws {
    let found = discovery(["MARTLET_DATA_DIR": "/data", "HOME": "/home/me"])
    #expect(found.paths == ["/data/credentials.json", "/home/me/.config/martlet/credentials.json"])
    let other = #"{"api_key":"mrt_home"}"#
    let environment = ["HOME": "/home/me"]
    #expect(
      try discovery(environment, files: ["/home/me/.config/martlet/credentials.json": other]).find(
        url: nil, apiKey: nil)
        == ClientCredentials(endpoint: .local, apiKey: "mrt_home"))
  }

  @Test("a key from a file is never sent to another server")
  func keyStaysHome() throws {
    let found = discovery(files: ["/var/lib/martlet/credentials.json": Self.local])
    let error = #expect(throws: APIError.self) { try found.find(url: "http://evil.example:8080", apiKey: nil) }
    #expect(error?.localCode == .noCredentials)
    #expect(error?.message.contains("is for http://127.0.0.1:8080") == true)
    #expect(try found.find(url: "http://localhost:8080", apiKey: nil).apiKey == "mrt_local")
  }

  @Test("a server that only .env names receives no key of the environment or of another server's file")
  func directory() throws {
    func find(_ url: String, _ names: Set<String>, url option: String? = nil) throws -> ClientCredentials {
      try CredentialsDiscovery(
        environment: ["MARTLET_URL": url, "MARTLET_API_KEY": "mrt_mine"], namesFromDotEnv: names,
        readFile: { $0.hasPrefix("/var") ? .data(Data(Self.local.utf8)) : .missing }
      ).find(url: option, apiKey: nil)
    }
    let error = #expect(throws: APIError.self) { try find("http://evil.example", ["MARTLET_URL"]) }
    #expect(error?.localCode == .noCredentials && error?.message.contains(".env") == true)
    #expect(
      try find("http://evil.example", ["MARTLET_URL", "MARTLET_API_KEY"]).apiKey == "mrt_mine",
      "both are the directory's")
    #expect(
      try find("http://127.0.0.1:8080", ["MARTLET_URL"]).apiKey == "mrt_mine", "the server of the credentials file")
    #expect(
      try find("http://evil.example", ["MARTLET_URL"], url: "http://known.example").endpoint.description
        == "http://known.example:80")
    #expect(try find("http://named.example", []).apiKey == "mrt_mine")
  }

  @Test("without credentials the error refers to martlet up")
  func nothingFound() {
    let error = #expect(throws: APIError.self) { try discovery().find(url: nil, apiKey: nil) }
    #expect(error?.message.contains("martlet up") == true)
    #expect(error?.exitCode == 77)
  }

  @Test(
    "the error about a malformed credentials file names the file", arguments: ["", "[]", "{\"url\":1}", "not json"])
  func brokenFile(_ text: String) {
    let error = #expect(throws: APIError.self) {
      try discovery(files: ["/var/lib/martlet/credentials.json": text]).find(url: nil, apiKey: nil)
    }
    #expect(error?.message.contains("/var/lib/martlet/credentials.json") == true)
  }

  @Test("a key that would break the header is refused", arguments: ["a b", "key\r\nX-Evil: 1", "schlüssel", ""])
  func hostileKey(_ key: String) {
    #expect(throws: APIError.self) { try discovery().find(url: "http://127.0.0.1:1", apiKey: key) }
  }

  @Test("the error mentions an unreadable file")
  func unreadable() {
    let found = CredentialsDiscovery(environment: [:]) { _ in .unreadable("permission denied") }
    let error = #expect(throws: APIError.self) { try found.find(url: nil, apiKey: nil) }
    #expect(error?.message.contains("permission denied") == true)
  }
}

@Suite("Endpoints")
struct EndpointTests {
  @Test(
    "addresses are normalized",
    arguments: [
      ("http://127.0.0.1:8080", "http://127.0.0.1:8080"), ("http://host/", "http://host:80"),
      ("host:9000", "http://host:9000"), ("http://[::1]:8080/base/", "http://[::1]:8080/base"),
    ])
  func normalised(_ text: String, _ expected: String) throws {
    #expect(try Endpoint(text).description == expected)
  }

  @Test(
    "invalid addresses are refused",
    arguments: [
      "", "http://", "ftp://host", "http://user:pass@host", "http://host?q", "http://host#f", "http://host:0",
      "http://host:99999",
    ])
  func refused(_ text: String) {
    #expect(throws: APIError.self) { try Endpoint(text) }
  }

  @Test("https is refused with the remedy")
  func tls() {
    let error = #expect(throws: APIError.self) { try Endpoint("https://host") }
    #expect(error?.message.contains("ssh -L") == true)
  }

  @Test("percent-encoding leaves only unreserved characters")
  func encoding() {
    #expect(percentEncoded("a-b_c.d~é /?&=%\n") == "a-b_c.d~%C3%A9%20%2F%3F%26%3D%25%0A")
  }
}
