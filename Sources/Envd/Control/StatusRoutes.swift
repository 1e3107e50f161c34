import HTTPTypes
package import Hummingbird

/// The read-only routes `/health`, `/envs` and `/metrics`.
package struct StatusRoutes: Sendable {
  private let state: GuestState
  private let sampler: MetricsSampler

  package init(state: GuestState, sampler: MetricsSampler) {
    self.state = state
    self.sampler = sampler
  }

  package func register(on router: Router<AgentRequestContext>) {
    router.get("/health") { _, _ in Response(status: .noContent) }
    router.head("/health") { _, _ in Response(status: .noContent) }
    router.get("/envs") { _, _ in JSONBody.response(state.identity.visibleEnvironment) }
    router.get("/metrics") { _, _ in
      do {
        return JSONBody.response(try sampler.sample())
      } catch {
        throw AgentError(.internalServerError, "the guest's metrics cannot be read")
      }
    }
  }
}

extension GuestState.Identity {
  /// The variables that every user process gets, independent of its user.
  package var visibleEnvironment: [String: String] {
    var variables = ["E2B_SANDBOX": "true"]
    variables["E2B_SANDBOX_ID"] = sandboxID
    variables["E2B_TEMPLATE_ID"] = templateID
    return variables.merging(environment) { $1 }
  }
}
