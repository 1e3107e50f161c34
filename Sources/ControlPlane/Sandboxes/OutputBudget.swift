import Concurrency
package import Model

/// Bounds the memory in which the outputs of plain commands are collected, over all commands: one caller's commands
/// must not exhaust the server's memory.
package final class OutputBudget: Sendable {
  /// Sixteen outputs of maximum size.
  package static let defaultBytes = 268_435_456
  /// Output that every command may collect without a reservation; most write less.
  package static let freeBytes = 65_536

  private let limit: Int
  private let taken = Mutex(0)

  package init(bytes: Int = OutputBudget.defaultBytes) {
    limit = bytes
  }

  package var reservedBytes: Int { taken.withLock { $0 } }

  package func reservation() -> OutputReservation { OutputReservation(self) }

  fileprivate func take(_ bytes: Int) -> Bool {
    taken.withLock { taken in
      guard taken + bytes <= limit else { return false }
      taken += bytes
      return true
    }
  }

  fileprivate func release(_ bytes: Int) {
    taken.withLock { $0 -= bytes }
  }
}

/// A command's share of the budget; returned on deinitialization, when its output has been sent.
package final class OutputReservation: Sendable {
  private let budget: OutputBudget
  private let size = Mutex((collected: 0, taken: 0))

  fileprivate init(_ budget: OutputBudget) {
    self.budget = budget
  }

  deinit {
    budget.release(size.withLock { $0.taken })
  }

  /// - Throws: `rate_limited` when the budget is exhausted.
  package func grow(by bytes: Int) throws(MartletError) {
    let isGranted = size.withLock { size in
      let more = max(0, size.collected + bytes - OutputBudget.freeBytes) - size.taken
      guard more <= 0 || budget.take(more) else { return false }
      size.collected += bytes
      size.taken += max(0, more)
      return true
    }
    guard isGranted else {
      throw MartletError(
        .rateLimited,
        "the server collects too much output of commands at the moment, and this one was killed; "
          + "use exec/stream for long output"
      )
    }
  }
}
