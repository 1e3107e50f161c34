/// Allocates slot numbers, each to one holder at a time.
///
/// Slots are taken round-robin, so that a released slot is reused last: late packets and pooled connections of its
/// former holder then reach no other guest.
package struct SlotPool: Sendable {
  private let slots: Range<Int>
  private var taken: Set<Int> = []
  private var next: Int

  /// - Precondition: `slots` is not empty.
  package init(slots: Range<Int>) {
    precondition(!slots.isEmpty, "a slot pool needs at least one slot")
    self.slots = slots
    next = slots.lowerBound
  }

  package var takenCount: Int { taken.count }

  /// A free slot, or nil when all are taken.
  package mutating func take() -> Int? {
    guard taken.count < slots.count else { return nil }
    while taken.contains(next) { advance() }
    defer { advance() }
    taken.insert(next)
    return next
  }

  /// Marks a slot as taken by a sandbox of an earlier host agent.
  /// - Returns: false when the slot is taken already or not in the pool.
  package mutating func claim(_ slot: Int) -> Bool {
    guard slots.contains(slot), taken.insert(slot).inserted else { return false }
    // The slot is reused last, as if it had been taken here.
    next = slot
    advance()
    return true
  }

  /// Releases a slot. Only its holder may call this, and only once: a later call would release it for the next holder.
  /// - Returns: whether the slot was taken.
  @discardableResult
  package mutating func release(_ slot: Int) -> Bool {
    taken.remove(slot) != nil
  }

  private mutating func advance() {
    next = next + 1 < slots.upperBound ? next + 1 : slots.lowerBound
  }
}
