/// Decides how long to spin for the next fault before sleeping. A wake-up costs more than serving a fault, so spinning
/// pays off only while faults follow closely on each other: a spin that found nothing makes the next one shorter.
///
/// Only a served fault is followed by a spin, so that a guest without faults costs nothing.
package struct SpinPolicy: Sendable {
  /// Faults are frequent after a start; later, spins are shorter.
  package static let startNanoseconds: UInt64 = 1_000_000_000
  package static let longestAtStart: UInt64 = 200_000
  package static let longestLater: UInt64 = 50_000
  private static let shortest: UInt64 = 2_000

  private let begin: UInt64
  private var budget = Self.longestAtStart

  package init(now: UInt64) {
    begin = now
  }

  /// Nanoseconds to spin after a served fault; 0 for no spin.
  package mutating func nanoseconds(now: UInt64) -> UInt64 {
    let longest = now - begin < Self.startNanoseconds ? Self.longestAtStart : Self.longestLater
    budget = min(budget, longest)
    return budget < Self.shortest ? 0 : budget
  }

  package mutating func found() {
    budget = Self.longestAtStart
  }

  package mutating func foundNothing() {
    budget /= 2
  }

  /// A fault came after `nanoseconds` of sleep.
  package mutating func woke(after nanoseconds: UInt64) {
    if nanoseconds < Self.longestLater { budget = Self.longestAtStart }
  }
}
