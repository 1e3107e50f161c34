import Concurrency
import Foundation

/// Whether anybody works in a sandbox (EX-6): work that is open counts for as long as it is open, everything else from
/// its last sign.
final class ActivityMeter: Sendable {
  private struct State {
    var timeout: Duration
    var open = 0
    var lastActive: ContinuousClock.Instant?
    var lastActiveAt: Date?
    /// Guests that have gone so far.
    var gone = 0
    /// What ends the open work when the guest goes.
    var interruptions: [ObjectIdentifier: @Sendable () -> Void] = [:]
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
    let gone = state.withLock { state in
      state.open += 1
      Self.touch(&state)
      return state.gone
    }
    return OpenWork(self, gone)
  }

  /// The guest is about to go, and will not answer any more: nobody waits for that until a time-out says so.
  func interrupt() {
    let interruptions = state.withLock { state in
      state.gone += 1
      defer { state.interruptions = [:] }
      return Array(state.interruptions.values)
    }
    for interruption in interruptions { interruption() }
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

  fileprivate func set(_ interruption: @escaping @Sendable () -> Void, of work: OpenWork, _ gone: Int) {
    let isGone = state.withLock { state in
      guard state.gone == gone else { return true }
      state.interruptions[ObjectIdentifier(work)] = interruption
      return false
    }
    if isGone { interruption() }
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

/// One piece of work that is open; ends once.
final class OpenWork: Sendable {
  private let meter: Mutex<ActivityMeter?>
  /// Guests that had gone when it began.
  private let gone: Int

  fileprivate init(_ meter: ActivityMeter, _ gone: Int) {
    self.meter = Mutex(meter)
    self.gone = gone
  }

  /// Has `interruption` called, in the place of an earlier one, when the guest goes while the work is open; at once
  /// when it has gone.
  func onInterruption(_ interruption: @escaping @Sendable () -> Void) {
    meter.withLock { $0 }?.set(interruption, of: self, gone)
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
