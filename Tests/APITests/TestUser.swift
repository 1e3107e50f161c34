import API
import ControlPlane
import Foundation
import NIOHTTP1
import TestSupport

/// A user with a session.
struct TestUser: Sendable {
  var email: String
  var token: String
  var user: String
  var team: String
}

extension LiveServer {
  var origin: String { base }

  /// Sends a request with a session token instead of a key.
  func send(_ method: HTTPMethod, _ path: String, as person: TestUser, json: String? = nil) async throws -> TestResponse
  {
    try await send(
      method, path, json: json, headers: ["Authorization": "Bearer \(person.token)"], isAuthenticated: false)
  }

  func signUp(_ email: String) async throws -> TestUser {
    let response = try await send(
      .POST, "/v1/auth/signup", json: #"{"email":"\#(email)","password":"correct horse","name":"Ada"}"#,
      isAuthenticated: false)
    guard response.status == 201 else { throw SimulatedFault() }
    return try person(response)
  }

  func logIn(_ email: String, _ password: String = "correct horse") async throws -> TestUser {
    try person(
      try await send(
        .POST, "/v1/auth/login", json: #"{"email":"\#(email)","password":"\#(password)"}"#, isAuthenticated: false))
  }

  func logInAsAdmin() async throws -> TestUser {
    try await logIn(admin?.adminEmail ?? "", admin?.adminPassword ?? "")
  }

  /// Creates an API key of the user's team.
  func makeKey(for person: TestUser) async throws -> (id: String, secret: String) {
    let response = try await send(.POST, "/v1/api-keys", as: person, json: #"{"name":"test"}"#)
    guard response.status == 201, let id = response.json["id"] as? String, let secret = response.json["key"] as? String
    else {
      throw SimulatedFault()
    }
    return (id, secret)
  }

  private func person(_ response: TestResponse) throws -> TestUser {
    guard let token = response.json["token"] as? String, let user = response.json["user_id"] as? String,
      let team = response.json["team_id"] as? String, let email = response.json["email"] as? String
    else { throw SimulatedFault() }
    return TestUser(email: email, token: token, user: user, team: team)
  }
}
