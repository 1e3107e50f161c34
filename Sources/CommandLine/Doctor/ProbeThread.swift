import Concurrency
import Dispatch
import Foundation

/// Runs a probe on a thread of its own, because it may block in the kernel for ever.
enum ProbeThread {
  /// - Returns: the result, or nil if the probe did not finish within `limit`; its thread is then abandoned.
  static func run<Result: Sendable>(limit: Duration, _ body: @escaping @Sendable () -> Result) async -> Result? {
    let completion = Completion<Result>()
    return await withCheckedContinuation { continuation in
      completion.set(continuation)
      Thread.detachNewThread { completion.complete(body()) }
      let milliseconds =
        Int(limit.components.seconds) * 1000 + Int(limit.components.attoseconds / 1_000_000_000_000_000)
      DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(milliseconds)) { completion.complete(nil) }
    }
  }

  /// Resumes the continuation once, with the first result or the time-out.
  private final class Completion<Result: Sendable>: Sendable {
    private let continuation = Mutex<CheckedContinuation<Result?, Never>?>(nil)

    func set(_ value: CheckedContinuation<Result?, Never>) {
      continuation.withLock { $0 = value }
    }

    func complete(_ result: Result?) {
      let waiting = continuation.withLock { continuation in
        defer { continuation = nil }
        return continuation
      }
      waiting?.resume(returning: result)
    }
  }
}
