import ArgumentParser
import Glibc

/// Completes steps in spite of a signal: a create whose sandbox id is not known yet, and a destroy.
enum Interruption {
  private enum Event<Result: Sendable>: Sendable {
    case finished(Result)
    case signal(Int32?)
  }

  /// Runs `step` to completion. The first signal is recorded and announced; the second one cancels the step.
  ///
  /// - Returns: the result, and the signal that arrived meanwhile.
  /// - Throws: `ExitCode` 128 + n on the second signal; `step` is cancelled then.
  static func completing<Result: Sendable>(
    _ what: String, signals: SignalWatcher, console: Console, _ step: @escaping @Sendable () async throws -> Result
  ) async throws -> (result: Result, signal: Int32?) {
    try await withThrowingTaskGroup(of: Event<Result>.self) { group in
      defer { group.cancelAll() }
      group.addTask { .finished(try await step()) }
      group.addTask { .signal(await signals.next()) }
      var first: Int32?
      while let event = try await group.next() {
        switch event {
        case .finished(let result): return (result, first)
        case .signal(nil): continue
        case .signal(SIGWINCH?): group.addTask { .signal(await signals.next()) }
        case .signal(let number?):
          guard first == nil else { throw ExitCode(128 + number) }
          first = number
          await console.complain("interrupted; \(what) (interrupt again to exit at once)")
          group.addTask { .signal(await signals.next()) }
        }
      }
      throw CancellationError()
    }
  }
}
