import ControlPlane
import Logging
import Model
import Persistence

/// Measures the cost that authentication adds to reading a sandbox, as each request does both.
struct Authentication {
  private static let rounds = 100
  private static let readsPerRound = 200

  let database: any Database
  let key: String
  let sandbox: SandboxID

  /// Alternates between rounds with and without authentication and compares their medians.
  /// - Returns: microseconds per read: the added cost, and the total.
  func measure() async throws -> (added: Double, whole: Double) {
    var identity = IdentityConfiguration()
    identity.rates.calls = Rate(burst: 1e9, perSecond: 1e9)
    let plane = ControlPlane(
      database: database, hosts: FixedHosts([]), identity: identity,
      dependencies: Dependencies(logger: Logger(label: "bench")))
    let credentials = PresentedCredentials(apiKey: key)
    let caller = Caller(principal: try await plane.authenticator.authenticate(credentials).value)
    var alone: [Double] = []
    var both: [Double] = []
    for _ in 0..<Self.rounds {
      alone.append(try await microseconds { _ = try await plane.sandboxes.sandbox(sandbox, for: caller) })
      both.append(
        try await microseconds {
          let authenticated = try await plane.authenticator.authenticate(credentials)
          _ = try await plane.sandboxes.sandbox(
            sandbox, for: Caller(principal: authenticated.value), notBefore: authenticated.version)
        })
    }
    let whole = both.sorted()[Self.rounds / 2]
    return (whole - alone.sorted()[Self.rounds / 2], whole)
  }

  private func microseconds(_ work: () async throws -> Void) async throws -> Double {
    let begin = ContinuousClock.now
    for _ in 0..<Self.readsPerRound { try await work() }
    return (ContinuousClock.now - begin) / .microseconds(1) / Double(Self.readsPerRound)
  }
}
