/// The lifecycle of a sandbox on its host, as a pure state machine. `SandboxController` performs the returned actions.
///
/// ```
/// creating ──▶ running ⇄ pausing ──▶ paused ⇄ resuming ──▶ running
///     │           └──vmmEnded──▶ failed
///     └─▶ removed                                  any ──destroyRequested──▶ destroying ──▶ removed
/// ```
/// A failed creation leads to `removed`: the caller receives its error. A failed pause leads back to `running`, a
/// failed resume to `paused`. During one of these three operations the VMM's end is a failure of the operation;
/// otherwise a running sandbox becomes `failed`. A destroy request succeeds in every state.
package struct SandboxLifecycle: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    case creating
    case running
    case pausing
    case paused
    case resuming
    case failed(reason: String)
    case destroying
    case removed
  }

  package enum Event: Sendable, Equatable {
    case created
    case creationFailed
    case pauseRequested
    case paused
    case pauseFailed
    case resumeRequested
    case resumed
    case resumeFailed
    case vmmEnded(reason: String)
    case destroyRequested
    case destroyed
  }

  package enum Action: Sendable, Equatable {
    /// Nothing to do; the event came too late or twice.
    case ignore
    /// Continue with the requested operation, or record its outcome.
    case proceed
    /// Cancel the operation under way, whose own clean-up runs first; then remove everything.
    case cancelWork
    /// Release everything but the disk and the console.
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
    case (.creating, .created): become(.running)
    case (.running, .pauseRequested): become(.pausing)
    case (.pausing, .paused): become(.paused)
    case (.pausing, .pauseFailed): become(.running)
    case (.paused, .resumeRequested): become(.resuming)
    case (.resuming, .resumed): become(.running)
    case (.resuming, .resumeFailed): become(.paused)
    case (.creating, .creationFailed), (.destroying, .destroyed): become(.removed, .forget)
    case (.running, .vmmEnded(let reason)): become(.failed(reason: reason), .releaseRuntime(reason: reason))
    case (.removed, _): .ignore
    case (.creating, .destroyRequested), (.pausing, .destroyRequested), (.resuming, .destroyRequested):
      become(.destroying, .cancelWork)
    case (_, .destroyRequested): become(.destroying, .removeEverything)
    default: .ignore
    }
  }

  private mutating func become(_ state: State, _ action: Action = .proceed) -> Action {
    self.state = state
    return action
  }
}
