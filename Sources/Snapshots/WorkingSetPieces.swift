/// What is left to bring in of a working set, in ascending order and in small pieces.
package struct WorkingSetPieces {
  private let set: WorkingSet
  private var run = 0
  /// Pages of the current run that were handed out, and of the whole set.
  private var handedOutOfRun = 0
  private var handedOut = 0

  package init(_ set: WorkingSet) {
    self.set = set
  }

  /// Consecutive pages and their content, which is there as long as this value.
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
