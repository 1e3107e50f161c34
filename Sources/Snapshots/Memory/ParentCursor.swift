/// Finds the parent's pages for questions that come in ascending order: mostly without a search.
final class ParentCursor {
  let image: MemoryImage?
  private var position = 0
  private var run: MemoryRun
  private var bytes: UnsafeRawPointer?

  /// - Parameter image: nil for a memory of zeros.
  init(_ image: MemoryImage?) {
    self.image = image
    run = .zeros(0..<MemoryGeometry.maximumPages)
    if image != nil { load(0) }
  }

  /// The parent's page; nil when it is zero.
  func bytes(of page: PageIndex) -> UnsafeRawPointer? {
    piece(at: page, limit: page + 1).bytes
  }

  /// The parent's pages from `page` on that come from one place: their bytes, nil for zeros, and the page after them,
  /// at most `limit`.
  func piece(at page: PageIndex, limit: PageIndex) -> (bytes: UnsafeRawPointer?, end: PageIndex) {
    if !run.pages.contains(page) { move(to: page) }
    return (bytes.map { $0 + (page - Int(run.start)) * MemoryGeometry.pageBytes }, min(run.end, limit))
  }

  private func move(to page: PageIndex) {
    guard let map = image?.header.map else { return }
    let following = position + 1
    let isNext = following < map.runs.count && map.runs[following].pages.contains(page)
    load(isNext ? following : map.position(of: page))
  }

  private func load(_ index: Int) {
    guard let image else { return }
    position = index
    run = image.header.map.runs[index]
    guard !run.isZero else { return bytes = nil }
    let first = Int(run.layerPage)
    bytes = image.layers[Int(run.generation)].bytes(of: first..<(first + Int(run.count))).baseAddress
  }
}
