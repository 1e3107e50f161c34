import Concurrency
import Glibc

/// Prints the steps of a command: one line per step with its duration, and the progress of long steps on a terminal.
final class StepReport: Sendable {
  private static let redrawInterval: Duration = .milliseconds(200)
  private static let detailWidth = 70

  private let isTerminal = isatty(STDOUT_FILENO) == 1
  private let lastDraw = Mutex<ContinuousClock.Instant?>(nil)

  func step<Result: Sendable>(
    _ name: String, _ body: (@escaping @Sendable (String) -> Void) async throws -> Result
  ) async throws -> Result {
    let begin = ContinuousClock.now
    if !isTerminal { write("  … \(name)\n") }
    do {
      let result = try await body { self.progress(name, $0) }
      write("\(erase)  ✓ \(name)  \(Self.seconds(since: begin)) s\n")
      return result
    } catch {
      write("\(erase)  ✗ \(name)  \(Self.seconds(since: begin)) s\n")
      throw error
    }
  }

  func line(_ text: String) {
    write("\(text)\n")
  }

  /// On a terminal each text replaces the previous one; elsewhere a line every 10 seconds shows the progress.
  private func progress(_ name: String, _ text: String) {
    let interval = isTerminal ? Self.redrawInterval : .seconds(10)
    let draws = lastDraw.withLock { last in
      if let time = last, ContinuousClock.now - time < interval { return false }
      last = .now
      return true
    }
    guard draws else { return }
    let detail = text.prefix(Self.detailWidth).filter { !$0.isNewline }
    write(isTerminal ? "\(erase)  … \(name)  \(detail)" : "  … \(name)  \(detail)\n")
  }

  private var erase: String { isTerminal ? "\r\u{1B}[K" : "" }

  private func write(_ text: String) {
    let bytes = Array(text.utf8)
    _ = Glibc.write(STDOUT_FILENO, bytes, bytes.count)
  }

  static func seconds(since begin: ContinuousClock.Instant) -> String {
    let (seconds, attoseconds) = (ContinuousClock.now - begin).components
    let tenths = attoseconds / 100_000_000_000_000_000
    return "\(seconds).\(tenths)"
  }
}
