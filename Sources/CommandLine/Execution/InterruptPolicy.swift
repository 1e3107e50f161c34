import APIClient
import Glibc

/// Decides what happens to the command in the sandbox when this process receives a signal.
///
/// ```
/// SIGINT              forward; another one within 2 s: kill
/// SIGQUIT             forward
/// SIGTERM, SIGHUP     forward, kill after a grace period; a second one: kill
/// killed, no exit     abandon after the same period
/// ```
struct InterruptPolicy {
  enum Action: Equatable {
    /// Send the signal; with `startsGrace` call `graceExpired()` after `grace`.
    case forward(String, startsGrace: Bool)
    /// Send SIGKILL and call `graceExpired()` after `grace`.
    case kill
    /// The command does not exit, or the server does not report it: exit with 128 + this signal.
    case abandon(Int32)
    case none
  }

  static let repeatWindow = Duration.seconds(2)
  static let grace = Duration.seconds(5)
  /// The signals that are watched, in addition to SIGWINCH.
  static let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]

  private var lastInterrupt: ContinuousClock.Instant?
  private var endingSignal: Int32?
  private var hasKilled = false

  mutating func handle(_ signal: Int32, at now: ContinuousClock.Instant) -> Action {
    guard !hasKilled else { return .abandon(signal) }
    switch signal {
    case SIGINT:
      defer { lastInterrupt = now }
      if let lastInterrupt, lastInterrupt.duration(to: now) <= Self.repeatWindow { return killing(signal) }
      return .forward("SIGINT", startsGrace: false)
    case SIGTERM, SIGHUP:
      guard endingSignal == nil else { return killing(signal) }
      endingSignal = signal
      return .forward(SignalName.name(of: signal) ?? "SIGTERM", startsGrace: true)
    default:
      return SignalName.name(of: signal).map { .forward($0, startsGrace: false) } ?? .none
    }
  }

  /// Called when a grace period has passed and the command still runs.
  mutating func graceExpired() -> Action {
    let signal = endingSignal ?? SIGINT
    return hasKilled ? .abandon(signal) : killing(signal)
  }

  private mutating func killing(_ signal: Int32) -> Action {
    hasKilled = true
    endingSignal = signal
    return .kill
  }
}
