/// The lifecycle state of a sandbox. Host agent and database check every transition against `canBecome`.
///
/// ```
/// pending → starting → running ⇄ (pausing → paused → resuming)
///              │           │
///              └───────────┴──▶ missing ⇄ running | paused | stopped     (host silent / back)
/// any → destroying → stopped          any but stopped → error
/// ```
/// `missing` is reversible, `stopped` is not.
package enum SandboxStatus: String, Sendable, CaseIterable, Codable {
  case pending
  case starting
  case running
  case pausing
  case paused
  case resuming
  case missing
  case destroying
  case stopped
  case error

  package func canBecome(_ next: SandboxStatus) -> Bool {
    switch (self, next) {
    case (.stopped, _): false
    case (.destroying, .stopped), (.destroying, .error): true
    case (.destroying, _): false
    case (_, .destroying): true
    case (.error, _): false
    case (_, .error): true
    case (.pending, .starting), (.starting, .running): true
    case (.running, .pausing), (.pausing, .paused), (.pausing, .running): true
    case (.paused, .resuming), (.resuming, .running), (.resuming, .paused): true
    case (.running, .missing), (.pending, .missing), (.starting, .missing): true
    case (.missing, .running), (.missing, .paused), (.missing, .stopped): true
    // The monitor corrects a row from the host's inventory after a response was lost.
    case (.running, .paused), (.paused, .running), (.running, .stopped), (.paused, .stopped): true
    default: false
    }
  }

  /// Whether a host holds, or may hold, resources of the sandbox.
  package var holdsResources: Bool {
    switch self {
    case .stopped, .error: false
    default: true
    }
  }
}
