package import Snapshots

/// Decides how many pages one fault brings in: an aligned window around it, larger while the guest reads on and on.
package struct FaultWindow: Sendable {
  /// 128 KiB: about where a fault's fixed cost stops to matter.
  package static let standardPages = 32
  package static let largestPages = 128
  /// While the pages are recorded that a guest needs first, so that its neighbours do not get into the record.
  package static let recordingPages = 4

  /// A power of two.
  package let smallest: Int
  package let largest: Int
  private var size: Int
  /// The page after the last window.
  private var expected: PageIndex = -1
  /// Windows that followed directly on the one before.
  private var streak = 0

  package init(smallest: Int = Self.standardPages, largest: Int = Self.largestPages) {
    precondition(smallest > 0 && smallest & (smallest - 1) == 0 && largest >= smallest, "windows are powers of two")
    self.smallest = smallest
    self.largest = largest
    size = smallest
  }

  /// The pages to bring in for a fault at `page`, which they contain.
  /// - Parameter limits: pages that are contiguous in the VMM's address space.
  package mutating func pages(around page: PageIndex, within limits: Range<PageIndex>) -> Range<PageIndex> {
    streak = page == expected ? streak + 1 : 0
    // Once may be chance: something short that lies across a border.
    size = streak < 2 ? smallest : min(size * 2, largest)
    let start = page & ~(smallest - 1)
    let window = (start..<(start + size)).clamped(to: limits)
    expected = window.upperBound
    return window
  }
}
