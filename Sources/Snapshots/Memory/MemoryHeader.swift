import Foundation
import Model

/// `memory.header`: the size of a memory, the generations whose layers hold its pages, and the map from pages to
/// layers.
///
/// The header is complete: reading a memory needs this header and the layers, but no other generation's header.
struct MemoryHeader: Equatable, Sendable {
  /// Identity, size and checksum of a layer, as the header expects them.
  struct Layer: Equatable, Sendable {
    var generation: GenerationID
    var pageCount: UInt32
    /// Checksum of the layer's table of page checksums; identifies the layer's content.
    var tableChecksum: UInt32
  }

  let memoryBytes: Int64
  /// The first is the generation's own layer.
  let layers: [Layer]
  let map: MemoryMap

  var id: GenerationID { layers[0].generation }
  var pageCount: Int { map.pageCount }

  /// - Throws: `invalid`, `tooManyGenerations`.
  init(memoryBytes: Int64, layers: [Layer], runs: [MemoryRun]) throws(SnapshotFormatError) {
    let pageCount = try MemoryGeometry.pages(of: memoryBytes)
    guard !layers.isEmpty, Set(layers.map(\.generation)).count == layers.count else {
      throw .invalid("list of generations")
    }
    guard layers.count <= MemoryGeometry.maximumGenerations else { throw .tooManyGenerations(layers.count) }
    self.memoryBytes = memoryBytes
    self.layers = layers
    map = try MemoryMap(checking: runs, pageCount: pageCount, layerPages: layers.map(\.pageCount))
  }

  /// Makes the header of a generation that changed some pages of `parent`.
  /// - Parameters:
  ///   - changes: in ascending order, zeros or pages of `layer` (generation 0).
  ///   - parent: nil for a memory of zeros.
  init(layer: Layer, memoryBytes: Int64, changes: [MemoryRun], parent: MemoryHeader?) throws(SnapshotFormatError) {
    let pageCount = try MemoryGeometry.pages(of: memoryBytes)
    guard parent.map({ $0.pageCount == pageCount }) ?? true else { throw .invalid("memory size") }
    let below = parent?.map ?? MemoryMap(zeroPages: pageCount)
    let shifted = MemoryMap(below) { $0 + 1 }
    let merged = MemoryMap(changes, over: shifted)
    try self.init(memoryBytes: memoryBytes, candidates: [layer] + (parent?.layers ?? []), map: merged)
  }

  /// Keeps the candidates that `map` refers to, and always the first.
  init(memoryBytes: Int64, candidates: [Layer], map: MemoryMap) throws(SnapshotFormatError) {
    var isUsed = [Bool](repeating: false, count: candidates.count)
    isUsed[0] = true
    for run in map.runs where !run.isZero { isUsed[Int(run.generation)] = true }
    var numbers = [UInt32](repeating: 0, count: candidates.count)
    var kept: [Layer] = []
    for (index, candidate) in candidates.enumerated() where isUsed[index] {
      numbers[index] = UInt32(kept.count)
      kept.append(candidate)
    }
    let renumbered = MemoryMap(map) { numbers[Int($0)] }
    try self.init(memoryBytes: memoryBytes, layers: kept, runs: renumbered.runs)
  }
}
