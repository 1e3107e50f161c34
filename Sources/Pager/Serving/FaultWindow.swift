package import Snapshots

/// Decides how many pages one fault brings in: an aligned window around it.
///
/// Few for a guest that works between its faults, because what it never asks for is memory that the host cannot give to
/// others; more while it does nothing but wait for pages, fault after fault; and yet more while it reads on and on.
package struct FaultWindow: Sendable {
  package static let smallestPages = 4
  /// 128 KiB: about where a fault's fixed cost stops to matter.
  package static let hurriedPages = 32
  package static let largestPages = 128
  /// A guest that asks again before that much time has passed waits more than it works.
  package static let hurryNanoseconds: UInt64 = 50_000

  /// Powers of two.
  package let smallest: Int
  package let largest: Int
  /// For faults here and there.
  private var base: Int
  private var size: Int
  /// The page after the last window.
  private var expected: PageIndex = -1
  /// Windows that followed directly on the one before.
  private var streak = 0

  package init(smallest: Int = Self.smallestPages, largest: Int = Self.largestPages) {
    precondition(smallest > 0 && smallest & (smallest - 1) == 0 && largest >= smallest, "windows are powers of two")
    self.smallest = smallest
    self.largest = largest
    base = smallest
    size = smallest
  }

  /// The same small window for every fault: while the pages are recorded that a guest needs first, so that their
  /// neighbours do not get into the record.
  package static let recording = FaultWindow(smallest: smallestPages, largest: smallestPages)

  /// The pages to bring in for a fault at `page`, which they contain.
  /// - Parameters:
  ///   - limits: pages that are contiguous in the VMM's address space.
  ///   - isHurried: whether the guest asked within `hurryNanoseconds` of the last answer.
  package mutating func pages(
    around page: PageIndex, within limits: Range<PageIndex>, isHurried: Bool
  ) -> Range<PageIndex> {
    base = isHurried ? min(base * 2, Self.hurriedPages, largest) : max(base / 2, smallest)
    streak = page == expected ? streak + 1 : 0
    // Once may be chance: something short that lies across a border.
    size = streak < 2 ? base : min(max(size, base) * 2, largest)
    let start = page & ~(base - 1)
    let window = (start..<(start + size)).clamped(to: limits)
    expected = window.upperBound
    return window
  }
}
