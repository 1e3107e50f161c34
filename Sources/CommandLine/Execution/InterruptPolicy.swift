import APIClient
import Glibc

/// Decides what a signal to us means for the command in the sandbox.
///
/// ```
/// SIGINT              forward; another one within 2 s: kill
/// SIGQUIT             forward
/// SIGTERM, SIGHUP     forward, kill after a grace period; a second one: kill
/// killed, no exit     abandon after the same period
/// ```
struct InterruptPolicy {
  enum Action: Equatable {
    /// Send the signal; with `graceEnds` ask again through `graceOver()` after `grace`.
    case forward(String, graceEnds: Bool)
    /// Send SIGKILL, ask again after `grace`.
    case kill
    /// The command does not die, or the server does not say so: leave with 128 + this signal.
    case abandon(Int32)
    case none
  }

  static let repeatWindow = Duration.seconds(2)
  static let grace = Duration.seconds(5)
  /// What we listen to, beside SIGWINCH.
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
      return .forward("SIGINT", graceEnds: false)
    case SIGTERM, SIGHUP:
      guard endingSignal == nil else { return killing(signal) }
      endingSignal = signal
      return .forward(SignalName.name(of: signal) ?? "SIGTERM", graceEnds: true)
    default:
      return SignalName.name(of: signal).map { .forward($0, graceEnds: false) } ?? .none
    }
  }

  /// A grace period that was asked for has passed and the command still runs.
  mutating func graceOver() -> Action {
    let signal = endingSignal ?? SIGINT
    return hasKilled ? .abandon(signal) : killing(signal)
  }

  private mutating func killing(_ signal: Int32) -> Action {
    hasKilled = true
    endingSignal = signal
    return .kill
  }
}
