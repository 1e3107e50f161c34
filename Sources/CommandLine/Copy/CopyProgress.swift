import Concurrency
import NIOCore

/// Shows the progress of a copy on a terminal; shows nothing elsewhere.
final class CopyProgress: Sendable {
  private static let interval = Duration.milliseconds(200)

  private struct State {
    var name = ""
    var expectedBytes: Int64?
    var doneBytes: Int64 = 0
    var startedAt: ContinuousClock.Instant
    var shownAt: ContinuousClock.Instant
    var hasShown = false
  }

  private let state: Mutex<State>
  private let console: Console
  private let isVisible: Bool

  init(console: Console, isVisible: Bool) {
    self.console = console
    self.isVisible = isVisible
    state = Mutex(State(startedAt: .now, shownAt: .now))
  }

  /// Starts the progress of a file.
  func begin(_ name: String, expectedBytes: Int64?) {
    state.withLock {
      $0 = State(name: name, expectedBytes: expectedBytes, startedAt: .now, shownAt: .now, hasShown: $0.hasShown)
    }
  }

  func add(_ bytes: Int) async {
    let line = state.withLock { state -> String? in
      state.doneBytes += Int64(bytes)
      let now = ContinuousClock.now
      guard isVisible, state.shownAt.duration(to: now) >= Self.interval else { return nil }
      state.shownAt = now
      state.hasShown = true
      return Self.line(
        state.name, done: state.doneBytes, expected: state.expectedBytes, elapsed: state.startedAt.duration(to: now))
    }
    if let line { await show("\r\u{1B}[K\(line)") }
  }

  /// Clears the progress line.
  func end() async {
    guard state.withLock({ $0.hasShown }) else { return }
    await show("\r\u{1B}[K")
  }

  static func line(_ name: String, done: Int64, expected: Int64?, elapsed: Duration) -> String {
    let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
    let rate = seconds > 0 ? "  \(Formatting.bytes(Int64(Double(done) / seconds)))/s" : ""
    let shown = Table.printable(name)
    guard let expected, expected > 0 else { return "\(shown)  \(Formatting.bytes(done))\(rate)" }
    let percent = min(100, done * 100 / expected)
    return "\(shown)  \(percent) %  \(Formatting.bytes(done)) of \(Formatting.bytes(expected))\(rate)"
  }

  private func show(_ text: String) async {
    // A failed progress message must not fail the copy.
    try? await console.write(.init(string: text), to: console.error)
  }
}
