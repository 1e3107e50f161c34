/// Maps every page of a memory to its source: runs in ascending order, without gap or overlap, from page 0 to the last.
struct MemoryMap: Equatable, Sendable {
  let runs: [MemoryRun]

  /// A memory of zeros.
  init(zeroPages: Int) {
    runs = [.zeros(0..<zeroPages)]
  }

  /// Takes runs derived from another map's runs, in the same order, without validation.
  init(trusted runs: [MemoryRun]) {
    self.runs = runs
  }

  /// Takes runs read from a file, after validation.
  /// - Parameter layerPages: number of pages in each generation's layer.
  /// - Throws: `invalid` unless they cover `pageCount` pages exactly, in order, and lie within their layers.
  init(checking runs: [MemoryRun], pageCount: Int, layerPages: [UInt32]) throws(SnapshotFormatError) {
    var next = 0
    for run in runs {
      guard run.count > 0, Int(run.start) == next, Int(run.count) <= pageCount - next else { throw .invalid("mapping") }
      next = run.end
      if run.isZero { continue }
      guard run.generation < layerPages.count else { throw .invalid("generation in its mapping") }
      guard Int(run.layerPage) + Int(run.count) <= Int(layerPages[Int(run.generation)]) else {
        throw .invalid("page in its mapping")
      }
    }
    guard next == pageCount else { throw .invalid("mapping") }
    self.runs = runs
  }

  /// Applies `changes` to `base`. Both are in ascending order; takes one pass.
  init(_ changes: [MemoryRun], over base: MemoryMap) {
    var list = RunList(capacity: base.runs.count + changes.count)
    var index = 0
    var next = 0
    func copyBase(until end: PageIndex) {
      while next < end {
        while base.runs[index].end <= next { index += 1 }
        let part = base.runs[index].clamped(to: next..<end)
        list.append(part)
        next = part.end
      }
    }
    for change in changes {
      copyBase(until: Int(change.start))
      list.append(change)
      next = change.end
    }
    copyBase(until: base.pageCount)
    runs = list.runs
  }

  /// The same map with renumbered generations.
  init(_ map: MemoryMap, renumbered: (UInt32) -> UInt32) {
    runs = map.runs.map { run in
      guard !run.isZero else { return run }
      var run = run
      run.generation = renumbered(run.generation)
      return run
    }
  }

  var pageCount: Int { runs.last?.end ?? 0 }

  /// Index of the run that contains `page`. Takes logarithmic time in the number of runs.
  /// - Parameter comparisons: incremented by the number of comparisons made.
  func position(of page: PageIndex, comparisons: inout Int) -> Int {
    precondition((0..<pageCount).contains(page), "a page outside of the memory")
    var low = 0
    var high = runs.count
    // runs[low].start <= page < runs[high].start
    while high - low > 1 {
      comparisons += 1
      let middle = (low + high) / 2
      if Int(runs[middle].start) <= page { low = middle } else { high = middle }
    }
    return low
  }

  func position(of page: PageIndex) -> Int {
    var comparisons = 0
    return position(of: page, comparisons: &comparisons)
  }
}
