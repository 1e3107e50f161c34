/// A value that is set once and that any number of tasks wait for. A wait ends with the cancellation of its task and
/// leaves nothing behind.
package final class Promise<Value: Sendable>: Sendable {
  private struct State {
    var value: Value?
    var next = 0
    var waiting: [Int: CheckedContinuation<Value?, Never>] = [:]
    /// Waits that were cancelled before they had a continuation.
    var cancelled: Set<Int> = []
  }

  private let state = Mutex(State())

  package init() {}

  /// The value, if it has been set.
  package var current: Value? { state.withLock { $0.value } }

  /// Tasks that wait at the moment.
  package var waiterCount: Int { state.withLock { $0.waiting.count } }

  /// Sets the value and wakes every task that waits.
  /// - Returns: false, and changes nothing, when it was set before.
  @discardableResult
  package func set(_ value: Value) -> Bool {
    let waiting = state.withLock { state -> [CheckedContinuation<Value?, Never>]? in
      guard state.value == nil else { return nil }
      state.value = value
      defer { state.waiting = [:] }
      return Array(state.waiting.values)
    }
    guard let waiting else { return false }
    for continuation in waiting { continuation.resume(returning: value) }
    return true
  }

  /// Returns the value once it is set.
  /// - Throws: when the calling task is cancelled before that.
  package func value() async throws(CancellationError) -> Value {
    let number = state.withLock { state in
      state.next += 1
      return state.next
    }
    let value = await withTaskCancellationHandler {
      await withCheckedContinuation { wait($0, number) }
    } onCancel: {
      cancel(number)
    }
    guard let value else { throw CancellationError() }
    return value
  }

  private func wait(_ continuation: CheckedContinuation<Value?, Never>, _ number: Int) {
    let isOver = state.withLock { state in
      let isCancelled = state.cancelled.remove(number) != nil
      if state.value == nil, !isCancelled { state.waiting[number] = continuation }
      return state.value != nil || isCancelled
    }
    if isOver { continuation.resume(returning: current) }
  }

  private func cancel(_ number: Int) {
    let continuation = state.withLock { state -> CheckedContinuation<Value?, Never>? in
      if let continuation = state.waiting.removeValue(forKey: number) { return continuation }
      if state.value == nil { state.cancelled.insert(number) }
      return nil
    }
    continuation?.resume(returning: nil)
  }
}
