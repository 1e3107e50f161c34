import Foundation
import LinuxSystem
package import Model
import SystemPackage

/// The memory of a generation: its header and every layer it needs, mapped for reading.
///
/// Opening checks everything but the pages themselves; callers check pages with `verify` or `firstDamaged` before they
/// pass them on. Layers are closed and unmapped with the last reference.
package final class MemoryImage: Sendable {
  package let id: GenerationID
  package let memoryBytes: Int64
  /// The first is the generation's own layer.
  package let layers: [MemoryLayer]
  let header: MemoryHeader

  /// Opens the memory of a published generation.
  /// - Throws: `snapshot_damaged` naming the generation and the file; `snapshot_incompatible` for files of a newer
  ///   version.
  package static func open(_ generation: Generation, in store: SnapshotStore) throws(MartletError) -> MemoryImage {
    let digest = generation.manifest.digests[SnapshotFile.memoryHeader.rawValue]
    let header = try store.header(of: generation.id, at: generation.headerPath, digest: digest)
    guard header.memoryBytes == generation.manifest.memoryBytes else {
      throw .unusable(generation.id, .memoryHeader, .invalid("memory size"))
    }
    return try MemoryImage(header) { store.path(of: $0).appending(SnapshotFile.memoryLayer.rawValue) }
  }

  init(_ header: MemoryHeader, layerPath: (GenerationID) -> FilePath) throws(MartletError) {
    var layers: [MemoryLayer] = []
    for layer in header.layers {
      layers.append(try MemoryLayer(layer, path: layerPath(layer.generation)))
    }
    id = header.id
    memoryBytes = header.memoryBytes
    self.layers = layers
    self.header = header
  }

  package var pageCount: Int { header.pageCount }

  /// The source of one page. For several pages, `extents` avoids a search for each.
  /// - Precondition: the page is in the memory.
  package func source(of page: PageIndex) -> MemoryExtent.Source {
    extent(of: header.map.runs[header.map.position(of: page)].clamped(to: page..<(page + 1))).source
  }

  /// The extents of `window`, in order: one search, then from run to run. Allocates nothing.
  /// - Precondition: the window is in the memory.
  package func extents(in window: Range<PageIndex>) -> MemoryExtents {
    MemoryExtents(self, window)
  }

  /// Whether the page's checksum is right; always true for zero pages.
  package func verify(_ page: PageIndex) -> Bool {
    firstDamaged(in: page..<(page + 1)) == nil
  }

  /// The first page of `window` whose checksum is wrong.
  package func firstDamaged(in window: Range<PageIndex>) -> PageIndex? {
    for extent in extents(in: window) {
      guard case .stored(let stored) = extent.source, let damaged = stored.firstDamaged else { continue }
      return extent.pages.lowerBound + damaged
    }
    return nil
  }

  /// The error for a damaged page: names the generation whose layer holds it.
  package func damage(at page: PageIndex) -> MartletError {
    guard case .stored(let stored) = source(of: page) else { return .damaged(id, .memoryHeader, "is damaged") }
    return .damaged(stored.layer.generation, .memoryLayer, "is damaged at page \(stored.firstPage)")
  }

  func extent(of run: MemoryRun) -> MemoryExtent {
    guard !run.isZero else { return MemoryExtent(pages: run.pages, source: .zero) }
    let stored = StoredPages(
      layer: layers[Int(run.generation)], layerIndex: Int(run.generation), firstPage: Int(run.layerPage),
      count: Int(run.count))
    return MemoryExtent(pages: run.pages, source: .stored(stored))
  }
}
