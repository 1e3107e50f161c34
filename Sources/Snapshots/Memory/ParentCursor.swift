/// Finds the parent's pages. Requests in ascending order mostly need no search.
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

  /// The bytes of the parent's page; nil when it is zero.
  func bytes(of page: PageIndex) -> UnsafeRawPointer? {
    piece(at: page, limit: page + 1).bytes
  }

  /// The longest extent of the parent's memory from `page` on: its bytes, nil for zeros, and the page after its end, at
  /// most `limit`.
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
