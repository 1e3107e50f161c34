package import AsyncHTTPClient
import GuestClient
import HostAPI
package import Logging
package import Model
import NIOCore

/// Connects to guest agents through one HTTP client that all sandboxes of the host share.
package struct GuestClientConnector: GuestConnector {
  private let httpClient: HTTPClient
  private let logger: Logger

  /// - Parameter httpClient: made by `GuestClient.makeHTTPClient()`; its creator shuts it down.
  package init(httpClient: HTTPClient, logger: Logger) {
    self.httpClient = httpClient
    self.logger = logger
  }

  package func guest(at address: IPv4Address, accessToken: String?, id: SandboxID) -> any Guest {
    var logger = logger
    logger[metadataKey: "sandbox.id"] = "\(id)"
    return GuestClient(
      address: address.description, port: GuestContract.agentPort, accessToken: accessToken, httpClient: httpClient,
      logger: logger)
  }
}

extension GuestClient: Guest {
  func waitUntilHealthy() async throws {
    // The caller's deadline cancels it.
    try await waitUntilHealthy(deadline: .now + .seconds(3_600))
  }

  func warmUp() async throws {
    try await waitUntilHealthy()
    // The first execution of a process fills caches that the snapshot keeps: measured, a third less work until the
    // first exec's result.
    try await initialize(
      GuestInitialization(hostname: "warm", entropy: Self.freshEntropy()), deadline: .now + .seconds(3_600))
    let session = try await start(ProcessRequest(command: "/bin/sh", arguments: ["-c", ":"]))
    for try await _ in session.events {}
    await session.detach(killing: false)
  }

  func initialize(_ identity: GuestIdentity) async throws {
    let initialization = GuestInitialization(
      environment: identity.envs, accessToken: identity.accessToken, defaultUser: identity.defaultUser,
      defaultWorkingDirectory: identity.defaultWorkdir, hostname: identity.hostname, sandboxID: identity.id.wire,
      templateID: identity.template.value, entropy: Self.freshEntropy())
    // The caller's deadline cancels it.
    try await initialize(initialization, deadline: .now + .seconds(3_600))
  }
}

extension GuestClient {
  private static func freshEntropy() -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<8).flatMap { _ in withUnsafeBytes(of: generator.next() as UInt64) { Array($0) } }
  }
}

extension GuestIdentity {
  /// Short enough for a prompt, and a valid host name (RFC 1123).
  var hostname: String {
    "\(template.value.prefix(20).lowercased().filter { $0 != "." && $0 != "_" })-\(id.uuidString.prefix(8))"
  }
}
