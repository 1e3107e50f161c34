import Foundation
import Synchronization

/// Whether anybody works in a sandbox (EX-6): work that is open counts for as long as it is open, everything else from its last sign.
final class ActivityMeter: Sendable {
  private struct State {
    var timeout: Duration
    var open = 0
    var lastActive: ContinuousClock.Instant?
    var lastActiveAt: Date?
  }

  /// How long a pause that failed is not tried again.
  private static let retryDelay: Duration = .seconds(10)

  private let state: Mutex<State>

  /// - Parameter timeoutSeconds: 0 never expires.
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

  /// Work begins; it is active until the returned value is ended or released.
  func begin() -> OpenWork {
    state.withLock { state in
      state.open += 1
      Self.touch(&state)
    }
    return OpenWork(self)
  }

  /// Whether nothing has been open and no sign was given for as long as the time-out.
  var isExpired: Bool {
    state.withLock { state in
      guard state.timeout > .zero, state.open == 0 else { return false }
      guard let last = state.lastActive else {
        // Nothing is known from before this agent; time runs from now.
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

  fileprivate func end() {
    state.withLock { state in
      state.open -= 1
      Self.touch(&state)
    }
  }

  private static func touch(_ state: inout State) {
    state.lastActive = .now
    state.lastActiveAt = Date()
  }
}

/// One piece of work that is open; ends once.
final class OpenWork: Sendable {
  private let meter: Mutex<ActivityMeter?>

  fileprivate init(_ meter: ActivityMeter) {
    self.meter = Mutex(meter)
  }

  func end() {
    let meter = meter.withLock { meter in
      defer { meter = nil }
      return meter
    }
    meter?.end()
  }

  deinit { end() }
}
