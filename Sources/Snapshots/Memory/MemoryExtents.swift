/// Consecutive pages of a guest's memory that come from one source.
package struct MemoryExtent {
  package enum Source {
    case zero
    case stored(StoredPages)
  }

  package let pages: Range<PageIndex>
  package let source: Source
}

/// Consecutive pages of one layer. This value references the layer, so that the pages stay valid.
package struct StoredPages {
  package let layer: MemoryLayer
  /// Index of the layer in the image's `layers`.
  package let layerIndex: Int
  /// First page in the layer.
  package let firstPage: Int
  package let count: Int

  /// The pages, in place and unverified.
  package var bytes: UnsafeRawBufferPointer { layer.bytes(of: firstPage..<(firstPage + count)) }

  /// Offset of the first page in the layer's file.
  package var fileOffset: Int { LayerHeader.offset(ofPage: firstPage) }

  /// CRC-32C that the page must have.
  package func checksum(at index: Int) -> UInt32 { layer.checksum(of: firstPage + index) }

  /// Index of the first page whose checksum is wrong; nil when all are right.
  package var firstDamaged: Int? {
    layer.firstDamaged(in: firstPage..<(firstPage + count)).map { $0 - firstPage }
  }

  /// Whether a copy of the pages has the right checksums.
  func matches(_ copy: UnsafeRawPointer?) -> Bool {
    layer.firstMismatch(of: copy, with: firstPage..<(firstPage + count)) == nil
  }
}

/// The extents of a window of memory.
package struct MemoryExtents: Sequence, IteratorProtocol {
  private let image: MemoryImage
  private let end: PageIndex
  private var start: PageIndex
  private var position: Int

  init(_ image: MemoryImage, _ window: Range<PageIndex>) {
    precondition(window.lowerBound >= 0 && window.upperBound <= image.pageCount, "a window outside of the memory")
    self.image = image
    end = window.upperBound
    start = window.lowerBound
    position = window.isEmpty ? 0 : image.header.map.position(of: window.lowerBound)
  }

  package mutating func next() -> MemoryExtent? {
    guard start < end else { return nil }
    let part = image.header.map.runs[position].clamped(to: start..<end)
    start = part.end
    position += 1
    return image.extent(of: part)
  }
}
