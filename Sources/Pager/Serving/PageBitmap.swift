package import Snapshots

/// One bit per page. Not for use by several threads.
package final class PageBitmap {
  private let words: UnsafeMutableBufferPointer<UInt64>
  package let pageCount: Int
  /// Whose memory the words are; nil when they are ours.
  private let owner: AnyObject?

  /// Bytes that `pageCount` pages take.
  package static func bytes(for pageCount: Int) -> Int { (pageCount + 63) / 64 * 8 }

  /// An empty one.
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

  /// The one in `memory`, which lives as long as `owner`.
  /// - Precondition: `memory` is aligned to 8 bytes and has `bytes(for:)` of them.
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

  /// The end of the run of pages from `page` on that are in the set, or are not in it, as `page` itself; at most
  /// `limit`.
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
