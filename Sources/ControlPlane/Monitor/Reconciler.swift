import HostAPI
import Model
import Persistence

/// Decides what to do about one sandbox, from its intended state (row) and its actual state (host).
///
/// Compares states, not events, so a lost response has no lasting effect. Has no memory and does no I/O.
enum Reconciler {
  enum Action: Equatable {
    case none
    /// Update the row to the host's state.
    case transition(to: SandboxStatus, reason: String?)
    /// The host runs a sandbox that a dead control plane was creating: update the row step by step.
    case adopt
    /// Query the host for this sandbox again; if it still does not know it, update the row.
    case confirmAbsence(then: SandboxStatus, reason: String)
    /// Finish a destroy that no control plane is working on.
    case finishDestroy
    /// The row is finished, but the host still holds resources: a tombstone decides whether to remove or to quarantine
    /// them.
    case settleLeftover
  }

  static let interrupted = "the server stopped while it was creating the sandbox; create it again"
  static let vanished = "the sandbox is no longer on its host"
  static let died = "the virtual machine ended unexpectedly"
  static let lost = "the paused sandbox is no longer on its host"

  /// - Parameters:
  ///   - row: the sandbox's row.
  ///   - host: the sandbox on its host; nil when the host responded and does not have it.
  static func action(row: SandboxRecord, host: HostSandbox?) -> Action {
    switch row.status {
    case .stopped: return host == nil ? .none : .settleLeftover
    case .error: return host == nil ? .none : .settleLeftover
    case .destroying: return .finishDestroy
    case .pending, .starting: return creation(host)
    case .running: return running(host)
    case .missing: return missing(host)
    case .paused: return paused(host)
    case .pausing, .resuming: return changing(row.status, host)
    }
  }

  private static func creation(_ host: HostSandbox?) -> Action {
    guard let host else { return .confirmAbsence(then: .error, reason: interrupted) }
    switch host.status {
    // Created, and possibly paused since: the row becomes `running` first and follows the host then.
    case .running, .pausing, .paused, .resuming: return .adopt
    case .error, .stopped: return .transition(to: .error, reason: host.reason ?? interrupted)
    default: return .none
    }
  }

  private static func running(_ host: HostSandbox?) -> Action {
    guard let host else { return .confirmAbsence(then: .stopped, reason: vanished) }
    switch host.status {
    case .error: return .transition(to: .error, reason: host.reason ?? died)
    case .paused: return .transition(to: .paused, reason: nil)
    case .stopped: return .transition(to: .stopped, reason: host.reason ?? vanished)
    default: return .none
    }
  }

  private static func missing(_ host: HostSandbox?) -> Action {
    switch host?.status {
    case .running: .transition(to: .running, reason: nil)
    case nil, .paused, .stopped, .error: running(host)
    default: .none
    }
  }

  /// A host lists its paused sandboxes; if one is missing from the list, the host is queried for it.
  private static func paused(_ host: HostSandbox?) -> Action {
    switch host?.status {
    case nil: .confirmAbsence(then: .error, reason: lost)
    case .running: .transition(to: .running, reason: nil)
    case .error, .stopped: .transition(to: .error, reason: host?.reason ?? lost)
    default: .none
    }
  }

  private static func changing(_ status: SandboxStatus, _ host: HostSandbox?) -> Action {
    switch host?.status {
    case .running: .transition(to: .running, reason: nil)
    case .paused: .transition(to: .paused, reason: nil)
    case .error, .stopped: .transition(to: .error, reason: host?.reason ?? died)
    case nil: .confirmAbsence(then: .error, reason: "the sandbox was lost while it was \(status.rawValue)")
    default: .none
    }
  }
}
