import LinuxSystem
import Model
import SystemPackage

/// Writes the memory of a generation anew so that it depends on fewer generations: pages of kept generations stay in
/// their layers, all other pages are copied into one layer, in the order of memory.
struct MemoryMerger {
  /// Size of one copy step.
  private static let bufferBytes = LayerFileWriter.bufferBytes / 4

  private let source: MemoryHeader
  private let kept: Set<GenerationID>
  private let layerPath: (GenerationID) -> FilePath

  init(_ source: MemoryHeader, keeping kept: Set<GenerationID>, layerPath: @escaping (GenerationID) -> FilePath) {
    self.source = source
    self.kept = kept
    self.layerPath = layerPath
  }

  /// Writes `memory.layer` and `memory.header`. Nothing is synchronized.
  /// - Throws: `snapshot_damaged` when a copied page is damaged; `insufficient_storage`, `internal`.
  func write(_ draft: GenerationDraft) throws(MartletError) {
    let writer = try writing { () throws(SystemError) in try LayerFileWriter(draft.memoryPath, id: draft.id) }
    let readers = try openReaders()
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Self.bufferBytes, alignment: MemoryGeometry.pageBytes)
    defer { buffer.deallocate() }
    var list = RunList(capacity: source.map.runs.count)
    for run in source.map.runs {
      list.append(try copy(run, readers, buffer, to: writer))
    }
    let layer = try writing { () throws(SystemError) in try writer.finish() }
    try writeHeader(layer, list.runs, to: draft.headerPath)
  }

  /// Readers of the layers that are not kept, by layer index; nil for kept layers.
  private func openReaders() throws(MartletError) -> [LayerFileReader?] {
    var readers: [LayerFileReader?] = []
    for layer in source.layers {
      let isKept = kept.contains(layer.generation)
      readers.append(isKept ? nil : try LayerFileReader(layer, path: layerPath(layer.generation)))
    }
    return readers
  }

  /// Copies a run if its layer is not kept. Returns the run for the new header, in which the new layer is 0 and the
  /// source's layers follow.
  private func copy(
    _ run: MemoryRun, _ readers: [LayerFileReader?], _ buffer: UnsafeMutableRawBufferPointer, to writer: LayerFileWriter
  ) throws(MartletError) -> MemoryRun {
    guard !run.isZero else { return run }
    var copy = run
    guard let reader = readers[Int(run.generation)] else {
      copy.generation += 1
      return copy
    }
    copy.generation = 0
    copy.layerPage = UInt32(writer.pageCount)
    var done = 0
    while done < Int(run.count) {
      let count = min(Int(run.count) - done, buffer.count / MemoryGeometry.pageBytes)
      let pages = UnsafeMutableRawBufferPointer(rebasing: buffer[0..<(count * MemoryGeometry.pageBytes)])
      try reader.read(pages, from: Int(run.layerPage) + done)
      try writing { () throws(SystemError) in try writer.append(UnsafeRawBufferPointer(pages)) }
      done += count
    }
    return copy
  }

  private func writeHeader(_ layer: MemoryHeader.Layer, _ runs: [MemoryRun], to path: FilePath) throws(MartletError) {
    let header: MemoryHeader
    do {
      header = try MemoryHeader(
        memoryBytes: source.memoryBytes, candidates: [layer] + source.layers, map: MemoryMap(trusted: runs))
    } catch {
      throw MartletError(.internalError, "the snapshot's memory could not be described", cause: error)
    }
    try writing { () throws(SystemError) in try StoreFile.create(path, header.encoded(), mode: 0o600) }
  }

  private func writing<Value>(_ body: () throws(SystemError) -> Value) throws(MartletError) -> Value {
    try storing("the snapshot's memory could not be merged", body)
  }
}
