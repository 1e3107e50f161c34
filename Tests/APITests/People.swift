import API
import ControlPlane
import Foundation
import NIOHTTP1
import TestSupport

/// Somebody with a session.
struct Person: Sendable {
  var email: String
  var token: String
  var user: String
  var team: String
}

extension LiveServer {
  var origin: String { base }

  /// A request with a session's token instead of a key.
  func send(_ method: HTTPMethod, _ path: String, as person: Person, json: String? = nil) async throws -> Answer {
    try await send(
      method, path, json: json, headers: ["Authorization": "Bearer \(person.token)"], isAuthenticated: false)
  }

  func signUp(_ email: String) async throws -> Person {
    let answer = try await send(
      .POST, "/v1/auth/signup", json: #"{"email":"\#(email)","password":"correct horse","name":"Somebody"}"#,
      isAuthenticated: false)
    guard answer.status == 201 else { throw SimulatedFault() }
    return try person(answer)
  }

  func logIn(_ email: String, _ password: String = "correct horse") async throws -> Person {
    try person(
      try await send(
        .POST, "/v1/auth/login", json: #"{"email":"\#(email)","password":"\#(password)"}"#, isAuthenticated: false))
  }

  func logInAsAdmin() async throws -> Person {
    try await logIn(admin?.adminEmail ?? "", admin?.adminPassword ?? "")
  }

  /// A key of the person's team.
  func makeKey(for person: Person) async throws -> (id: String, secret: String) {
    let answer = try await send(.POST, "/v1/api-keys", as: person, json: #"{"name":"test"}"#)
    guard answer.status == 201, let id = answer.json["id"] as? String, let secret = answer.json["key"] as? String else {
      throw SimulatedFault()
    }
    return (id, secret)
  }

  private func person(_ answer: Answer) throws -> Person {
    guard let token = answer.json["token"] as? String, let user = answer.json["user_id"] as? String,
      let team = answer.json["team_id"] as? String, let email = answer.json["email"] as? String
    else { throw SimulatedFault() }
    return Person(email: email, token: token, user: user, team: team)
  }
}
