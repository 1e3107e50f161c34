/// Index of a page in a guest's memory, counted from 0 in units of `MemoryGeometry.pageBytes`.
package typealias PageIndex = Int

package enum MemoryGeometry {
  package static let pageBytes = 4_096
  /// The largest memory a sandbox can have (`Limits`) is 64 GiB.
  package static let maximumMemoryBytes: Int64 = 64 << 30
  static let maximumPages = Int(maximumMemoryBytes) / pageBytes
  /// Maximum number of generations that one header refers to, including its own. Chains are compacted long before.
  package static let maximumGenerations = 64

  /// - Throws: `invalid` unless the size is a positive multiple of the page size up to the maximum.
  static func pages(of memoryBytes: Int64) throws(SnapshotFormatError) -> Int {
    guard (1...maximumMemoryBytes).contains(memoryBytes), memoryBytes % Int64(pageBytes) == 0 else {
      throw .invalid("memory size")
    }
    return Int(memoryBytes) / pageBytes
  }
}

/// Consecutive pages that come from one place: zeros, or consecutive pages of one generation's layer.
struct MemoryRun: Equatable, Sendable {
  /// Value of `generation` for pages that are zero.
  static let zero = UInt32.max

  /// First page in the guest's memory.
  var start: UInt32
  var count: UInt32
  /// Index into the header's list of generations; 0 is the header's own.
  var generation: UInt32
  /// Index of the first page within that generation's layer; 0 for zeros.
  var layerPage: UInt32

  init(start: UInt32, count: UInt32, generation: UInt32, layerPage: UInt32) {
    self.start = start
    self.count = count
    self.generation = generation
    self.layerPage = layerPage
  }

  static func zeros(_ pages: Range<PageIndex>) -> MemoryRun {
    MemoryRun(start: UInt32(pages.lowerBound), count: UInt32(pages.count), generation: zero, layerPage: 0)
  }

  var isZero: Bool { generation == Self.zero }
  var end: PageIndex { Int(start) + Int(count) }
  var pages: Range<PageIndex> { Int(start)..<end }

  /// The part of the run inside `pages`, which must overlap the run.
  func clamped(to pages: Range<PageIndex>) -> MemoryRun {
    let part = self.pages.clamped(to: pages)
    let skipped = UInt32(part.lowerBound) - start
    return MemoryRun(
      start: UInt32(part.lowerBound), count: UInt32(part.count), generation: generation,
      layerPage: isZero ? 0 : layerPage + skipped)
  }

  /// Whether `next` continues this run, both in memory and in the layer.
  func isContinued(by next: MemoryRun) -> Bool {
    generation == next.generation && end == Int(next.start) && (isZero || layerPage + count == next.layerPage)
  }
}

/// Runs in ascending order; adjacent runs are joined where possible.
struct RunList {
  private(set) var runs: [MemoryRun] = []

  init(capacity: Int = 0) {
    runs.reserveCapacity(capacity)
  }

  mutating func append(_ run: MemoryRun) {
    guard let last = runs.last, last.isContinued(by: run) else { return runs.append(run) }
    runs[runs.count - 1].count += run.count
  }
}
