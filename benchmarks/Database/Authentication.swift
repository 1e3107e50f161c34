import ControlPlane
import Logging
import Persistence

/// What finding out who calls costs, as each request does it.
struct Authentication {
  private static let rounds = 20_000

  let database: any Database
  let key: String

  /// For one call.
  func microseconds() async throws -> Double {
    var identity = IdentityConfiguration()
    identity.rates.calls = Rate(burst: 1e9, perSecond: 1e9)
    let plane = ControlPlane(
      database: database, hosts: FixedHosts([]), identity: identity, surroundings: Surroundings(logger: Logger(label: "bench")))
    try await authenticate(plane.authenticator, Self.rounds / 10)
    let begin = ContinuousClock.now
    try await authenticate(plane.authenticator, Self.rounds)
    return (ContinuousClock.now - begin) / .microseconds(1) / Double(Self.rounds)
  }

  private func authenticate(_ authenticator: Authenticator, _ rounds: Int) async throws {
    for _ in 0..<rounds { _ = try await authenticator.principal(PresentedCredentials(apiKey: key)) }
  }
}
