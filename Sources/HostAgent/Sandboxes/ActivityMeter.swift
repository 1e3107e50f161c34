import Concurrency
import Foundation

/// Measures activity in a sandbox: it is active while work is open, and otherwise since its last activity.
final class ActivityMeter: Sendable {
  private struct State {
    var timeout: Duration
    var open = 0
    var lastActive: ContinuousClock.Instant?
    var lastActiveAt: Date?
    /// Number of guests that have ended so far.
    var endedGuests = 0
    /// Called for the open work when the guest ends.
    var interruptions: [ObjectIdentifier: @Sendable () -> Void] = [:]
  }

  /// Delay before a failed automatic pause is tried again.
  private static let retryDelay: Duration = .seconds(10)

  private let state: Mutex<State>

  /// - Parameter timeoutSeconds: idle time-out; 0 never expires.
  init(timeoutSeconds: Int) {
    state = Mutex(State(timeout: .seconds(timeoutSeconds)))
  }

  var lastActiveAt: Date? { state.withLock { $0.open > 0 ? Date() : $0.lastActiveAt } }

  func setTimeout(_ seconds: Int) {
    state.withLock { $0.timeout = .seconds(seconds) }
  }

  func touch() {
    state.withLock { Self.touch(&$0) }
  }

  /// Begins work; the sandbox is active until the returned value is ended or released.
  func begin() -> OpenWork {
    let endedGuests = state.withLock { state in
      state.open += 1
      Self.touch(&state)
      return state.endedGuests
    }
    return OpenWork(self, endedGuests)
  }

  /// Ends the open work because the guest is about to end and will not respond, so that callers do not wait for a
  /// time-out.
  func interrupt() {
    let interruptions = state.withLock { state in
      state.endedGuests += 1
      defer { state.interruptions = [:] }
      return Array(state.interruptions.values)
    }
    for interruption in interruptions { interruption() }
  }

  /// Whether no work has been open and no activity has been recorded for the duration of the time-out.
  var isExpired: Bool {
    state.withLock { state in
      guard state.timeout > .zero, state.open == 0 else { return false }
      guard let last = state.lastActive else {
        // After a restart of the host agent earlier activity is unknown; the time starts now.
        Self.touch(&state)
        return false
      }
      return ContinuousClock.now - last >= state.timeout
    }
  }

  func postpone() {
    state.withLock { state in
      let earliest = ContinuousClock.now - state.timeout + Self.retryDelay
      state.lastActive = max(state.lastActive ?? earliest, earliest)
    }
  }

  fileprivate func set(_ interruption: @escaping @Sendable () -> Void, of work: OpenWork, _ endedGuests: Int) {
    let hasEnded = state.withLock { state in
      guard state.endedGuests == endedGuests else { return true }
      state.interruptions[ObjectIdentifier(work)] = interruption
      return false
    }
    if hasEnded { interruption() }
  }

  fileprivate func end(_ work: ObjectIdentifier) {
    state.withLock { state in
      state.open -= 1
      state.interruptions[work] = nil
      Self.touch(&state)
    }
  }

  private static func touch(_ state: inout State) {
    state.lastActive = .now
    state.lastActiveAt = Date()
  }
}

/// Open work in a sandbox; it is counted until it ends, once.
final class OpenWork: Sendable {
  private let meter: Mutex<ActivityMeter?>
  /// Number of guests that had ended when the work began.
  private let endedGuests: Int

  fileprivate init(_ meter: ActivityMeter, _ endedGuests: Int) {
    self.meter = Mutex(meter)
    self.endedGuests = endedGuests
  }

  /// Calls `interruption` when the guest ends while the work is open, or at once when it has ended already. Replaces an
  /// earlier `interruption`.
  func onInterruption(_ interruption: @escaping @Sendable () -> Void) {
    meter.withLock { $0 }?.set(interruption, of: self, endedGuests)
  }

  func end() {
    let meter = meter.withLock { meter in
      defer { meter = nil }
      return meter
    }
    meter?.end(ObjectIdentifier(self))
  }

  deinit { end() }
}
