import AsyncHTTPClient
import Foundation
import Glibc
import Model
import NIOCore
import NIOHTTP1

/// Everything that a guest must know about itself before user code runs.
package struct GuestInitialization: Sendable, Equatable {
  /// Environment of every user process.
  package var environment: [String: String]
  /// The secret that the agent demands from now on. Later calls need a client with this token.
  package var accessToken: String?
  package var defaultUser: String?
  package var defaultWorkingDirectory: String?
  package var hostname: String?
  package var sandboxID: String?
  package var templateID: String?
  /// Mixed into the kernel's random state. 32 bytes or more, new for every start and resume.
  package var entropy: [UInt8]

  package init(
    environment: [String: String] = [:], accessToken: String? = nil, defaultUser: String? = nil,
    defaultWorkingDirectory: String? = nil, hostname: String? = nil, sandboxID: String? = nil,
    templateID: String? = nil,
    entropy: [UInt8] = []
  ) {
    self.environment = environment
    self.accessToken = accessToken
    self.defaultUser = defaultUser
    self.defaultWorkingDirectory = defaultWorkingDirectory
    self.hostname = hostname
    self.sandboxID = sandboxID
    self.templateID = templateID
    self.entropy = entropy
  }
}

extension GuestClient {
  /// Initializes a booted guest: sets identity and wall clock and thaws the user processes.
  package func initialize(_ initialization: GuestInitialization) async throws {
    try await postInit(try Self.body(initialization, newLife: false))
  }

  private func postInit(_ body: ByteBuffer) async throws {
    var request = plainRequest(.POST, "/init")
    request.headers.replaceOrAdd(name: "content-type", value: "application/json")
    request.body = .bytes(body)
    _ = try await perform(request, within: limits.call, .control)
  }

  /// Encodes the request body. Reads the wall clock, so call it right before sending.
  static func body(_ initialization: GuestInitialization, newLife: Bool) throws -> ByteBuffer {
    let body = Body(initialization, timestamp: wallClock(), newLife: newLife ? true : nil)
    return ByteBuffer(bytes: try JSONEncoder().encode(body))
  }

  /// Writes dirty data back and freezes all user processes. Returns when they are frozen.
  package func freeze() async throws {
    _ = try await perform(plainRequest(.POST, "/freeze"), within: limits.call, .control)
  }

  /// Sets the wall clock, which stood still while the guest was stopped, and thaws the user processes. Idempotent.
  package func thaw() async throws {
    // Fields that the request does not name keep their values.
    try await postInit(ByteBuffer(bytes: try JSONEncoder().encode(["timestamp": Self.wallClock()])))
  }

  /// The wall clock as RFC 3339 with nanoseconds.
  static func wallClock() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return rfc3339(seconds: Int64(now.tv_sec), nanoseconds: Int64(now.tv_nsec))
  }

  static func rfc3339(seconds: Int64, nanoseconds: Int64) -> String {
    let second = Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
    let digits = String(nanoseconds)
    return "\(second.dropLast()).\(String(repeating: "0", count: max(0, 9 - digits.count)))\(digits)Z"
  }

  /// The JSON of `POST /init`. Source: E2B's envd contract; host name, ids and entropy are our additions.
  private struct Body: Encodable {
    let envVars: [String: String]
    let accessToken: String?
    let timestamp: String
    let defaultUser: String?
    let defaultWorkdir: String?
    let hostname: String?
    let sandboxID: String?
    let templateID: String?
    /// Base64.
    let entropy: Data?
    let newLife: Bool?

    init(_ initialization: GuestInitialization, timestamp: String, newLife: Bool?) {
      self.newLife = newLife
      envVars = initialization.environment
      accessToken = initialization.accessToken
      self.timestamp = timestamp
      defaultUser = initialization.defaultUser
      defaultWorkdir = initialization.defaultWorkingDirectory
      hostname = initialization.hostname
      sandboxID = initialization.sandboxID
      templateID = initialization.templateID
      entropy = initialization.entropy.isEmpty ? nil : Data(initialization.entropy)
    }
  }
}
