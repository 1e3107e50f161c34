import Foundation
import LinuxSystem
import Testing

extension EndToEnd {
  @Suite struct BadInputTests {
    struct Case: CustomTestStringConvertible, Sendable {
      let testDescription: String
      let method: MartletServer.Method
      let path: String
      var body: String?
      var headers: [String: String] = [:]
      let status: Int
      let code: String
    }

    static let unknown = "sb-5f0c1d9e-0000-4000-8000-000000000000"
    static let cases: [Case] = [
      create("an unknown template", #"{"template":"nothing"}"#, 404, "not_found"),
      create("a template name that is a path", #"{"template":"../etc"}"#, 400),
      create("a name of 65 characters", #"{"template":"\#(String(repeating: "a", count: 65))"}"#, 400),
      create("no vCPUs", #"{"vcpus":0}"#, 400),
      create("ten thousand vCPUs", #"{"vcpus":10000}"#, 400),
      create("negative memory", #"{"memory_mb":-1}"#, 400),
      create("memory that is text", #"{"memory_mb":"much"}"#, 400),
      create("memory beyond any integer", #"{"memory_mb":1e400}"#, 400),
      create("a field that does not exist", #"{"vcpu":1}"#, 400),
      create("half a JSON document", #"{"vcpus":"#, 400),
      create("a list instead of an object", "[]", 400),
      create("deeply nested JSON", String(repeating: "[", count: 100_000), 400),
      Case(
        testDescription: "an oversized body", method: .POST, path: "/v1/sandboxes",
        body: #"{"metadata":{"a":"\#(String(repeating: "x", count: 3 << 20))"}}"#, status: 413, code: "too_large"),
      Case(
        testDescription: "a wrong key", method: .GET, path: "/v1/sandboxes",
        headers: ["X-API-Key": "mrt_" + String(repeating: "0", count: 40)],
        status: 401, code: "unauthorized"),
      Case(
        testDescription: "an unknown id", method: .GET, path: "/v1/sandboxes/\(unknown)", status: 404, code: "not_found"
      ),
      Case(
        testDescription: "a malformed id", method: .GET, path: "/v1/sandboxes/sb-1", status: 400,
        code: "invalid_request"),
      Case(
        testDescription: "an id of another kind", method: .GET,
        path: "/v1/sandboxes/team-5f0c1d9e-0000-4000-8000-000000000000",
        status: 400,
        code: "invalid_request"),
      Case(
        testDescription: "an id that is a path", method: .DELETE, path: "/v1/sandboxes/..%2F..%2Fetc", status: 400,
        code: "invalid_request"),
      Case(testDescription: "an unknown route", method: .GET, path: "/v1/nothing", status: 404, code: "not_found"),
      Case(
        testDescription: "a wrong method", method: .PUT, path: "/v1/sandboxes", status: 405,
        code: "method_not_allowed"),
      Case(
        testDescription: "a page of a million", method: .GET, path: "/v1/sandboxes?limit=1000000", status: 400,
        code: "invalid_request"),
    ]

    private static func create(
      _ what: String, _ body: String, _ status: Int, _ code: String = "invalid_request"
    ) -> Case {
      Case(testDescription: what, method: .POST, path: "/v1/sandboxes", body: body, status: status, code: code)
    }

    @Test("invalid input gets the documented status, a stable code and a message, and leaves nothing", arguments: cases)
    func refused(input: Case) async throws {
      let server = try currentServer()
      let before = try await Census.take(server)
      let response = try await server.request(input.method, input.path, body: input.body, headers: input.headers)
      #expect(response.status == input.status, "\(response.text)")
      #expect(response.errorCode == input.code)
      #expect((response.errorMessage ?? "").count > 10)
      #expect(!response.text.contains("/var/") && !response.text.contains("Error("), "internals leak: \(response.text)")
      try await before.awaitSame(server, descriptorSlack: 16)
    }

    @Test("a request without a key is 401")
    func noKey() async throws {
      let response = try await currentServer().request(.GET, "/v1/sandboxes", authenticated: false)
      #expect(response.status == 401)
      #expect(response.errorCode == "unauthorized")
    }

    @Test("paths are resolved only in the guest")
    func paths() async throws {
      try await withSandbox { server, id in
        let route = "/v1/sandboxes/\(id)/files/read"
        let secret = try await server.request(.POST, route, body: #"{"path":"../../../../../../etc/hostname"}"#)
        #expect(secret.status == 200)
        #expect(secret.text.hasPrefix("minimal-"), "the guest's own file, not the host's: \(secret.text)")
        #expect(try await server.request(.POST, route, body: #"{"path":"/no/such"}"#).status == 404)
        #expect(try await server.request(.POST, route, body: #"{"path":"a\u0000b"}"#).status == 400)
        #expect(try await server.request(.POST, route, body: #"{"path":""}"#).status == 400)
        let long = String(repeating: "a/", count: 4_096)
        #expect(try await server.request(.POST, route, body: #"{"path":"\#(long)"}"#).status == 400)
        for operation in ["list", "stat", "mkdir", "remove"] {
          let response = try await server.request(
            .POST, "/v1/sandboxes/\(id)/files/\(operation)", body: #"{"path":"\u0000"}"#)
          #expect(response.status == 400, "\(operation): \(response.text)")
        }
      }
    }
  }
}
