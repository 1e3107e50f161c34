import ControlPlane
import Foundation
import Model
import NIOHTTP1
import TestSupport
import Testing

/// Streams whose caller loses access while they are open.
@Suite(.serialized) struct StreamAccessTests {
  private func withStream(
    _ credentials: @Sendable @escaping (LiveServer) async throws -> String,
    _ loss: @Sendable @escaping (LiveServer) async throws -> Void, _ check: @Sendable @escaping ([String: Any]) -> Void
  ) async throws {
    try await withServer(streamTouchInterval: .milliseconds(50)) { server async throws -> Void in
      let credentials = try await credentials(server)
      let raw = try await server.clients.connect(server.port)
      let id = try await open(server, raw, credentials)
      let client = StreamClient(raw: raw)
      try await client.send(#"{"type":"start","cmd":"sleep"}"#)
      #expect(try await client.json()["type"] as? String == "start")
      let sandbox = try #require(SandboxID(wire: id))
      let process = try #require(await server.host.processes[sandbox]?.last)
      try await client.send(#"{"type":"signal","signal":10}"#)
      #expect(try await eventually { process.signals == [10] })
      try await loss(server)
      check(try await client.json())
      #expect(try await client.closeCode() != nil)
      #expect(try await eventually { process.signals.contains(9) })
    }
  }

  /// - Returns: the sandbox.
  private func open(_ server: LiveServer, _ raw: RawClient, _ credentials: String) async throws -> String {
    let parts = credentials.split(separator: ": ", maxSplits: 1).map(String.init)
    let response = try await server.send(
      .POST, "/v1/sandboxes", json: "{}", headers: [parts[0]: parts[1]], isAuthenticated: false)
    let id = try #require(response.json["id"] as? String)
    try await raw.send(
      "GET /v1/sandboxes/\(id)/exec/stream HTTP/1.1\r\nHost: localhost\r\n\(credentials)\r\nUpgrade: websocket\r\n"
        + "Connection: Upgrade\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    #expect(try await raw.readHead().hasPrefix("HTTP/1.1 101"))
    return id
  }

  @Test("a deleted key ends the streams that were opened with it")
  func deletedKey() async throws {
    let made = Made()
    try await withStream { server in
      let owner = try await server.signUp("owner@b.c")
      let key = try await server.makeKey(for: owner)
      await made.set(owner, key.id)
      return "X-API-Key: \(key.secret)"
    } _: { server in
      let (person, id) = await made.all
      let owner = try #require(person)
      #expect(try await server.send(.DELETE, "/v1/api-keys/\(id)", as: owner).status == 204)
    } _: { message in
      #expect(message["type"] as? String == "error" && message["code"] as? String == "unauthorized")
    }
  }

  @Test("a removed member's shell is closed")
  func removedMember() async throws {
    let made = Made()
    try await withStream { server in
      let owner = try await server.signUp("owner@b.c")
      let member = try await server.signUp("member@b.c")
      let path = "/v1/teams/\(owner.team)/members"
      #expect(
        try await server.send(.POST, path, as: owner, json: #"{"email":"member@b.c","role":"member"}"#).status == 201)
      let switched = try await server.send(
        .POST, "/v1/auth/switch-team", as: member, json: #"{"team_id":"\#(owner.team)"}"#)
      await made.set(owner, member.user)
      let token = try #require(switched.json["token"] as? String)
      return "Authorization: Bearer \(token)"
    } _: { server in
      let (person, user) = await made.all
      let owner = try #require(person)
      #expect(try await server.send(.DELETE, "/v1/teams/\(owner.team)/members/\(user)", as: owner).status == 204)
    } _: { message in
      #expect(message["type"] as? String == "error" && message["code"] as? String == "no_team")
    }
  }

  @Test("a new password ends the streams of earlier sessions")
  func newPassword() async throws {
    let made = Made()
    try await withStream { server in
      let owner = try await server.signUp("owner@b.c")
      await made.set(owner, "")
      return "Authorization: Bearer \(owner.token)"
    } _: { server in
      let (person, _) = await made.all
      let owner = try #require(person)
      let control = server.control
      let caller = Caller(principal: try await control.authenticator.principal(session: owner.token))
      _ = try await control.accounts.changePassword(of: caller, from: "correct horse", to: "battery staple")
    } _: { message in
      #expect(message["type"] as? String == "error" && message["code"] as? String == "unauthorized")
    }
  }
}

/// Objects that one step of a test creates for the next.
private actor Made {
  private(set) var all: (TestUser?, String) = (nil, "")
  func set(_ person: TestUser, _ id: String) { all = (person, id) }
}
