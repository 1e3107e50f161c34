/// The host's side of a sandbox's life, as a pure state machine; `SandboxController` performs what it answers.
///
/// ```
/// creating ──created──▶ running ──vmmEnded──▶ failed
///     │                    │                    │
///     └──────destroyRequested────────┴──────────┴──▶ destroying ──destroyed──▶ gone
/// ```
/// A creation that fails goes to `gone`: its error is the caller's answer. A destroy request wins from every state.
package struct SandboxLifecycle: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    case creating
    case running
    case failed(reason: String)
    case destroying
    case gone
  }

  package enum Event: Sendable, Equatable {
    case created
    case creationFailed
    case vmmEnded(reason: String)
    case destroyRequested
    case destroyed
  }

  package enum Action: Sendable, Equatable {
    /// Nothing to do; the event came too late or twice.
    case ignore
    /// Stop a creation that is under way; its own clean-up runs first.
    case cancelCreation
    case publish
    /// Give back everything but the disk and the console.
    case releaseRuntime(reason: String)
    case removeEverything
    case forget
  }

  package private(set) var state: State

  package init(_ state: State) {
    self.state = state
  }

  package mutating func handle(_ event: Event) -> Action {
    switch (state, event) {
    case (.creating, .created):
      state = .running
      return .publish
    case (.creating, .creationFailed), (.destroying, .destroyed):
      state = .gone
      return .forget
    case (.creating, .destroyRequested):
      state = .destroying
      return .cancelCreation
    case (.running, .vmmEnded(let reason)):
      state = .failed(reason: reason)
      return .releaseRuntime(reason: reason)
    case (.running, .destroyRequested), (.failed, .destroyRequested), (.destroying, .destroyRequested):
      state = .destroying
      return .removeEverything
    default:
      return .ignore
    }
  }
}
