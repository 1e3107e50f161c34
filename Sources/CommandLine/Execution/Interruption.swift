import ArgumentParser
import Glibc

/// Steps that must be finished although somebody wants us gone: a create whose id we do not know yet, a destroy.
enum Interruption {
  private enum Occurrence<Result: Sendable>: Sendable {
    case finished(Result)
    case signal(Int32?)
  }

  /// Runs `step` to its end. A first signal is remembered and announced, a second one gives up.
  ///
  /// - Returns: the result, and the signal that came meanwhile.
  /// - Throws: `ExitCode` 128 + n on the second signal; `step` is cancelled then.
  static func finishing<Result: Sendable>(
    _ what: String, signals: SignalWatcher, console: Console, _ step: @escaping @Sendable () async throws -> Result
  ) async throws -> (result: Result, signal: Int32?) {
    try await withThrowingTaskGroup(of: Occurrence<Result>.self) { group in
      defer { group.cancelAll() }
      group.addTask { .finished(try await step()) }
      group.addTask { .signal(await signals.next()) }
      var first: Int32?
      while let occurrence = try await group.next() {
        switch occurrence {
        case .finished(let result): return (result, first)
        case .signal(nil): continue
        case .signal(SIGWINCH?): group.addTask { .signal(await signals.next()) }
        case .signal(let number?):
          guard first == nil else { throw ExitCode(128 + number) }
          first = number
          await console.complain("interrupted; \(what) (interrupt again to leave at once)")
          group.addTask { .signal(await signals.next()) }
        }
      }
      throw CancellationError()
    }
  }
}
