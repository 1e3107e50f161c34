import Testing

@testable import Envd

@Suite("access signatures of /files")
struct AccessSignatureTests {
  private static let knownDigest = "LelwtReBAmo1HnGgxKzJAdvG3kqE4VvNtFwUCCimNyI"
  private let signature = AccessSignature(path: "/a b", operation: .read, username: "user")

  @Test("without an access token every request is authorized")
  func open() throws {
    try signature.authorize(token: nil, presented: "whatever", query: FilesQuery(""), now: 0)
  }

  @Test("a presented token must match exactly")
  func token() throws {
    try signature.authorize(token: "secret", presented: "secret", query: FilesQuery(""), now: 0)
    #expect(failure(presented: "Secret", query: "") == "access token present in header but does not match")
    #expect(failure(presented: "", query: "") == "access token present in header but does not match")
  }

  @Test("a signature is v1_ and the unpadded base64 of SHA-256 over operation, path, user and token")
  func knownValue() {
    // printf '%s' '/f:read:user:tok' | openssl dgst -sha256 -binary | base64
    let value = AccessSignature(path: "/f", operation: .read, username: "user").value(token: "tok", expiration: nil)
    #expect(value == "v1_" + Self.knownDigest)
    #expect(!value.contains("="))
  }

  @Test("missing, wrong and expired signatures have different errors, checked in this order")
  func order() {
    let valid = signature.value(token: "secret", expiration: 100)
    #expect(failure(query: "") == "missing signature query parameter")
    #expect(failure(query: "signature=v1_x&signature_expiration=1") == "invalid signature")
    #expect(failure(query: "signature=\(escaped(valid))&signature_expiration=100") == "signature is already expired")
    #expect(failure(query: "signature=\(escaped(valid))&signature_expiration=101") == "invalid signature")
    #expect(failure(query: "signature=\(escaped(valid))") == "invalid signature")
  }

  @Test("a valid signature is accepted until it expires, and only for its operation, user and path")
  func valid() throws {
    let value = signature.value(token: "secret", expiration: 200)
    let query = try FilesQuery("signature=\(escaped(value))&signature_expiration=200")
    try signature.authorize(token: "secret", presented: nil, query: query, now: 200)
    for other in [
      AccessSignature(path: "/a b", operation: .write, username: "user"),
      AccessSignature(path: "/a", operation: .read, username: "user"),
      AccessSignature(path: "/a b", operation: .read, username: nil),
    ] {
      #expect(throws: FileFailure.self) { try other.authorize(token: "secret", presented: nil, query: query, now: 0) }
    }
  }

  @Test("an expiration that is not a number is an invalid argument")
  func expiration() throws {
    let query = try FilesQuery("signature=x&signature_expiration=soon")
    #expect {
      try signature.authorize(token: "secret", presented: nil, query: query, now: 0)
    } throws: { ($0 as? FileFailure)?.reason == .invalidArgument }
  }

  private func failure(presented: String? = nil, query: String) -> String? {
    do {
      try signature.authorize(token: "secret", presented: presented, query: FilesQuery(query), now: 150)
      return nil
    } catch {
      #expect(error.reason == .unauthenticated)
      return error.message
    }
  }

  private func escaped(_ text: String) -> String {
    text.map { $0 == "+" ? "%2B" : $0 == "/" ? "%2F" : String($0) }.joined()
  }
}
