/// Iterates over a working set in ascending order and in small pieces.
package struct WorkingSetPieces {
  private let set: WorkingSet
  private var run = 0
  /// Pages that were returned: of the current run, and of the whole set.
  private var handedOutOfRun = 0
  private var handedOut = 0

  package init(_ set: WorkingSet) {
    self.set = set
  }

  /// Returns the next consecutive pages and their content, which stays valid as long as this value.
  /// - Returns: nil at the end.
  package mutating func next(atMost limit: Int) -> (pages: Range<PageIndex>, bytes: UnsafeRawBufferPointer)? {
    guard run < set.runs.count else { return nil }
    let current = set.runs[run]
    let count = min(limit, Int(current.count) - handedOutOfRun)
    let first = Int(current.first) + handedOutOfRun
    let bytes = set.bytes(from: handedOut, count: count)
    handedOut += count
    handedOutOfRun += count
    if handedOutOfRun == Int(current.count) { (run, handedOutOfRun) = (run + 1, 0) }
    return (first..<(first + count), bytes)
  }
}
