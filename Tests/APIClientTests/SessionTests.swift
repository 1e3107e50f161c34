import APIClient
import Foundation
import Testing

@Suite("Session discovery")
struct SessionTests {
  private static let now = Date(timeIntervalSince1970: 1_767_323_045)

  private func discovery(
    _ files: [String: String], _ environment: [String: String] = ["HOME": "/h"]
  ) -> SessionDiscovery {
    SessionDiscovery(environment: environment) { path in files[path].map { .data(Data($0.utf8)) } ?? .missing }
  }

  private static let stored =
    #"{"url":"http://127.0.0.1:8080","token":"t","email":"a@b.c","team_id":"team-1","user_id":"usr-1","#
    + #""expires_at":"2026-01-02T09:04:05.000000Z"}"#
  private static let firstRun =
    #"{"url":"http://127.0.0.1:8080","api_key":"mrt_1","admin_email":"admin@martlet.local","admin_password":"secret"}"#

  @Test("a stored session is used until it expires, and only for its own server")
  func stored() throws {
    let found = discovery(["/h/.config/martlet/session.json": Self.stored])
    guard case .session(let session) = try found.find(url: nil, now: Self.now) else {
      Issue.record("no session")
      return
    }
    #expect(session.token == "t" && session.teamID == "team-1")
    #expect(try found.endpoint(url: nil).description == "http://127.0.0.1:8080")
    #expect(throws: APIError.self) { try found.find(url: "http://other:8080", now: Self.now) }
    #expect(throws: APIError.self) { try found.find(url: nil, now: Self.now.addingTimeInterval(6 * 3_600)) }
  }

  @Test("without a session the administrator in the credentials file logs in, only on that server")
  func administrator() throws {
    let found = discovery(["/var/lib/martlet/credentials.json": Self.firstRun])
    guard case .password(let endpoint, let email, let password) = try found.find(url: nil) else {
      Issue.record("no administrator")
      return
    }
    #expect(endpoint.port == 8080 && email == "admin@martlet.local" && password == "secret")
    #expect(throws: APIError.self) { try found.find(url: "http://other:8080") }
    #expect(throws: APIError.self) { try discovery(["/h/.config/martlet/session.json": "{"]).find(url: nil) }
  }
}
