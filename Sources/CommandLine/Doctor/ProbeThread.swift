import Concurrency
import Dispatch
import Foundation

/// A thread for one probe: it may block or wedge in the kernel without hurting anybody else.
enum ProbeThread {
  /// - Returns: the result, or nil when it did not come within `limit`; the thread is then left behind.
  static func run<Result: Sendable>(limit: Duration, _ body: @escaping @Sendable () -> Result) async -> Result? {
    let answer = Answer<Result>()
    return await withCheckedContinuation { continuation in
      answer.expect(continuation)
      Thread.detachNewThread { answer.give(body()) }
      let milliseconds =
        Int(limit.components.seconds) * 1000 + Int(limit.components.attoseconds / 1_000_000_000_000_000)
      DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(milliseconds)) { answer.give(nil) }
    }
  }

  /// Whoever comes first answers.
  private final class Answer<Result: Sendable>: Sendable {
    private let continuation = Mutex<CheckedContinuation<Result?, Never>?>(nil)

    func expect(_ value: CheckedContinuation<Result?, Never>) {
      continuation.withLock { $0 = value }
    }

    func give(_ result: Result?) {
      let waiting = continuation.withLock { continuation in
        defer { continuation = nil }
        return continuation
      }
      waiting?.resume(returning: result)
    }
  }
}
