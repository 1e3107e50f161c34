package import Snapshots

/// One bit per page. Not for use by several threads.
package final class PageBitmap {
  private let words: UnsafeMutableBufferPointer<UInt64>
  package let pageCount: Int
  /// Owner of the words' memory; nil when this object owns it.
  private let owner: AnyObject?

  /// Number of bytes for `pageCount` pages.
  package static func bytes(for pageCount: Int) -> Int { (pageCount + 63) / 64 * 8 }

  /// Makes an empty set.
  package init(pageCount: Int) {
    words = .allocate(capacity: Self.bytes(for: pageCount) / 8)
    words.initialize(repeating: 0)
    self.pageCount = pageCount
    owner = nil
  }

  package init(copying other: PageBitmap) {
    words = .allocate(capacity: Self.bytes(for: other.pageCount) / 8)
    _ = words.initialize(from: other.words.prefix(words.count))
    pageCount = other.pageCount
    owner = nil
  }

  /// Uses the set in `memory`, which stays valid as long as `owner`.
  /// - Precondition: `memory` is aligned to 8 bytes and has at least `bytes(for:)` bytes.
  package init(_ memory: UnsafeMutableRawBufferPointer, pageCount: Int, owner: AnyObject) {
    precondition(memory.count >= Self.bytes(for: pageCount), "memory for every page")
    words = memory.bindMemory(to: UInt64.self)
    self.pageCount = pageCount
    self.owner = owner
  }

  deinit {
    if owner == nil { words.deallocate() }
  }

  package func contains(_ page: PageIndex) -> Bool { words[page >> 6] & (1 << UInt64(page & 63)) != 0 }

  package func insert(_ pages: Range<PageIndex>) {
    for page in pages { words[page >> 6] |= 1 << UInt64(page & 63) }
  }

  package func remove(_ pages: Range<PageIndex>) {
    for page in pages { words[page >> 6] &= ~(1 << UInt64(page & 63)) }
  }

  /// End of the run from `page` on whose pages are all in the set or all not in the set, like `page`; at most `limit`.
  package func endOfRun(from page: PageIndex, limit: PageIndex) -> PageIndex {
    let isIn = contains(page)
    let uniform: UInt64 = isIn ? .max : 0
    var next = page + 1
    while next < limit {
      if next & 63 == 0, words[next >> 6] == uniform {
        next += 64
        continue
      }
      guard contains(next) == isIn else { return next }
      next += 1
    }
    return min(next, limit)
  }

  package var count: Int { words.prefix((pageCount + 63) / 64).reduce(0) { $0 + $1.nonzeroBitCount } }
}
