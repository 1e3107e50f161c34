/// Where a sandbox is in its life (SB-7). Every transition is checked against this table, on the host and in the
/// database.
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
    // The monitor found the truth on the host after either side lost an answer.
    case (.running, .paused), (.paused, .running), (.running, .stopped), (.paused, .stopped): true
    default: false
    }
  }

  /// States in which the host holds, or may hold, resources for the sandbox.
  package var holdsResources: Bool {
    switch self {
    case .stopped, .error: false
    default: true
    }
  }
}
