/// Hands out slot numbers, each to one holder at a time (NET-4, L-6).
///
/// Slots are taken round-robin, so that a slot just given back is the last to be used again: late packets and pooled
/// connections of its former holder meet nobody.
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

  /// Marks a slot as taken by a sandbox that a predecessor made.
  /// - Returns: false when the slot is taken already or not one of the pool's.
  package mutating func claim(_ slot: Int) -> Bool {
    guard slots.contains(slot), taken.insert(slot).inserted else { return false }
    // As if it had been taken here: it is the last to be used again, too.
    next = slot
    advance()
    return true
  }

  /// Gives a slot back. A second release of the same slot changes nothing, whoever holds it by then must not be harmed:
  /// only the holder may call this.
  /// - Returns: whether the slot was taken.
  @discardableResult
  package mutating func release(_ slot: Int) -> Bool {
    taken.remove(slot) != nil
  }

  private mutating func advance() {
    next = next + 1 < slots.upperBound ? next + 1 : slots.lowerBound
  }
}
