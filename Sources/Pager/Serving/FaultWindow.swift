package import Snapshots

/// Decides how many pages one fault places: an aligned window around the page.
///
/// The window is small for a guest that computes between its faults, because pages that it never uses occupy memory of
/// the host. It is larger while the guest only waits for pages, fault after fault, and largest while it reads
/// sequentially.
package struct FaultWindow: Sendable {
  package static let smallestPages = 4
  /// 128 KiB: at about this size the fixed cost of a fault becomes negligible.
  package static let hurriedPages = 32
  package static let largestPages = 128
  /// A guest that faults again within this time after the last fault was resolved waits more than it computes.
  package static let hurryNanoseconds: UInt64 = 50_000

  /// Powers of two.
  package let smallest: Int
  package let largest: Int
  /// Window size for faults at scattered pages.
  private var base: Int
  private var size: Int
  /// The page after the last window.
  private var expected: PageIndex = -1
  /// Number of windows that directly followed the one before.
  private var streak = 0

  package init(smallest: Int = Self.smallestPages, largest: Int = Self.largestPages) {
    precondition(smallest > 0 && smallest & (smallest - 1) == 0 && largest >= smallest, "windows are powers of two")
    self.smallest = smallest
    self.largest = largest
    base = smallest
    size = smallest
  }

  /// Gives every fault the same small window. Used while a working set is recorded, so that it contains few neighbours
  /// of the pages that the guest needs.
  package static let recording = FaultWindow(smallest: smallestPages, largest: smallestPages)

  /// Returns the pages to place for a fault at `page`; the range contains `page`.
  /// - Parameters:
  ///   - limits: pages that are contiguous in the VMM's address space.
  ///   - isHurried: whether the guest faulted within `hurryNanoseconds` after the last fault was resolved.
  package mutating func pages(
    around page: PageIndex, within limits: Range<PageIndex>, isHurried: Bool
  ) -> Range<PageIndex> {
    base = isHurried ? min(base * 2, Self.hurriedPages, largest) : max(base / 2, smallest)
    streak = page == expected ? streak + 1 : 0
    // A single adjacent window may be chance: a short object that crosses a window border.
    size = streak < 2 ? base : min(max(size, base) * 2, largest)
    let start = page & ~(base - 1)
    let window = (start..<(start + size)).clamped(to: limits)
    expected = window.upperBound
    return window
  }
}
