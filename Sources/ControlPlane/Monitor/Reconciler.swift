import HostAPI
import Model
import Persistence

/// Decides, for one sandbox, what to do about what should be (row) and what is (host).
///
/// It compares states, never events, so a lost answer loses nothing (MO-2, L-4, L-30); it has no memory and does no
/// I/O.
enum Reconciler {
  enum Action: Equatable {
    case none
    /// The host says what the row should say.
    case transition(to: SandboxStatus, reason: String?)
    /// The host runs what a dead server was creating: take the row there step by step.
    case adopt
    /// Ask the host again for this one sandbox; when it still does not know it, move the row.
    case confirmAbsence(then: SandboxStatus, reason: String)
    /// Finish a destroy that nobody works on.
    case finishDestroy
    /// The row is over, the host still holds something.
    case releaseOnHost
  }

  static let interrupted = "the server stopped while it was creating the sandbox; create it again"
  static let vanished = "the sandbox is no longer on its host"
  static let died = "the virtual machine ended unexpectedly"
  static let lost = "the paused sandbox is no longer on its host"

  /// - Parameters:
  ///   - row: a sandbox of the control plane.
  ///   - host: the same sandbox on its host; nil when the host, which did answer, does not have it.
  static func action(row: SandboxRecord, host: HostSandbox?) -> Action {
    switch row.status {
    case .stopped: return host == nil ? .none : .releaseOnHost
    case .error: return host == nil ? .none : .releaseOnHost
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
    // It was made, and may have been paused since: it runs first and is then followed.
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

  /// A host lists the paused sandboxes that it holds (TTL-6); one that it does not list it is asked for (MO-3).
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
