import Concurrency
import Foundation

/// Runs a probe on a thread of its own, because it may block in the kernel for ever.
enum ProbeThread {
  /// - Returns: the result, or nil if the probe did not finish within `limit`; its thread is then abandoned.
  static func run<Value: Sendable>(limit: Duration, _ body: @escaping @Sendable () -> Value) async -> Value? {
    try? await waitAtMost(limit) {
      await withCheckedContinuation { continuation in
        Thread.detachNewThread { continuation.resume(returning: body()) }
      }
    }
  }
}
