import CLinux
import Glibc
import LinuxSystem
package import Model
import SystemPackage

/// Writes the memory of a stopped guest into a draft: `memory.layer` with the pages that differ from the parent's, and
/// `memory.header`.
///
/// The guest's vCPUs are stopped meanwhile, so nothing is synchronized here; `SnapshotStore.publish` does that later.
/// Calls come in ascending order of pages. Pages that no call names are the parent's, or zero without a parent. Not for
/// use by several threads.
package final class MemoryLayerWriter {
  package struct Counts: Sendable, Equatable {
    /// Pages stored in the new layer.
    package var stored = 0
    /// Pages that were not zero in the parent and are zero now.
    package var zeroed = 0
    /// Pages that were passed but equal the parent's.
    package var equal = 0
  }

  private enum PageClass {
    case zeroed
    case equal
    case stored
  }

  private let draft: GenerationDraft
  private let memoryBytes: Int64
  private let pageCount: Int
  private let parent: ParentCursor
  private let layer: LayerFileWriter
  /// Both files are open from the start: a process that has given up its privileges can finish them.
  private let header: OwnedDescriptor
  private var changes = RunList(capacity: 1_024)
  private var next: PageIndex = 0
  private var counts = Counts()

  /// - Parameter parent: the memory to compare with, of the same size.
  /// - Throws: `insufficient_storage`, `internal`.
  package init(_ draft: GenerationDraft, memoryBytes: Int64, parent: MemoryImage?) throws(MartletError) {
    guard let pageCount = try? MemoryGeometry.pages(of: memoryBytes),
      parent.map({ $0.memoryBytes == memoryBytes }) ?? true
    else {
      throw MartletError(.internalError, "the sandbox's memory has a size that cannot be saved")
    }
    self.draft = draft
    self.memoryBytes = memoryBytes
    self.pageCount = pageCount
    self.parent = ParentCursor(parent)
    layer = try storing("the snapshot's memory could not be written") { () throws(SystemError) in
      try LayerFileWriter(draft.memoryPath, id: draft.id)
    }
    header = try storing("the snapshot's memory could not be written") { () throws(SystemError) in
      try OwnedDescriptor.open(draft.headerPath.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    }
  }

  /// Appends consecutive pages, starting with page `first`. Each page is classified as zero, equal to the parent's, or
  /// stored.
  package func append(_ pages: UnsafeRawBufferPointer, at first: PageIndex) throws(MartletError) {
    let count = pages.count / MemoryGeometry.pageBytes
    try advance(to: first..<(first + count), whole: pages.count % MemoryGeometry.pageBytes == 0)
    guard let base = pages.baseAddress, count > 0 else { return }
    var start = 0
    var pageClass = classify(base, first)
    for index in 1...count {
      let following = index < count ? classify(base + index * MemoryGeometry.pageBytes, first + index) : nil
      if following == pageClass { continue }
      let group = (start * MemoryGeometry.pageBytes)..<(index * MemoryGeometry.pageBytes)
      try take(UnsafeRawBufferPointer(rebasing: pages[group]), first + start, pageClass)
      start = index
      pageClass = following ?? pageClass
    }
  }

  /// Records pages that are known to be zero.
  package func markZero(_ pages: Range<PageIndex>) throws(MartletError) {
    try advance(to: pages, whole: true)
    var page = pages.lowerBound
    while page < pages.upperBound {
      let (source, end) = parent.piece(at: page, limit: pages.upperBound)
      if source == nil { counts.equal += end - page } else { counts.zeroed += end - page }
      page = end
    }
    if !pages.isEmpty { changes.append(.zeros(pages)) }
  }

  /// Writes the rest of the layer, and the header.
  /// - Throws: `insufficient_storage`, `internal`; the caller must then discard the draft.
  package func finish() throws(MartletError) -> Counts {
    do {
      let entry = try layer.finish()
      let content = try MemoryHeader(
        layer: entry, memoryBytes: memoryBytes, changes: changes.runs, parent: parent.image?.header
      ).encoded()
      try content.withUnsafeBufferPointer { buffer throws(SystemError) in
        try StoreFile.write(header, UnsafeRawBufferPointer(buffer), at: 0, path: draft.headerPath)
      }
      return counts
    } catch let error as SystemError {
      throw .storageFailure("the snapshot's memory could not be written", error)
    } catch {
      throw MartletError(.internalError, "the snapshot's memory could not be described", cause: error)
    }
  }

  private func advance(to pages: Range<PageIndex>, whole: Bool) throws(MartletError) {
    guard whole, pages.lowerBound >= next, pages.upperBound <= pageCount else {
      throw MartletError(.internalError, "the sandbox's memory was not saved in order")
    }
    next = pages.upperBound
  }

  private func classify(_ bytes: UnsafeRawPointer, _ page: PageIndex) -> PageClass {
    let parentBytes = parent.bytes(of: page)
    // A page that became zero must be recorded: an omitted page keeps the parent's content.
    if clinux_is_zero(bytes, MemoryGeometry.pageBytes) != 0 { return parentBytes == nil ? .equal : .zeroed }
    guard let parentBytes, memcmp(bytes, parentBytes, MemoryGeometry.pageBytes) == 0 else { return .stored }
    return .equal
  }

  private func take(_ pages: UnsafeRawBufferPointer, _ first: PageIndex, _ pageClass: PageClass) throws(MartletError) {
    let count = pages.count / MemoryGeometry.pageBytes
    switch pageClass {
    case .equal:
      counts.equal += count
    case .zeroed:
      counts.zeroed += count
      changes.append(.zeros(first..<(first + count)))
    case .stored:
      counts.stored += count
      changes.append(
        MemoryRun(start: UInt32(first), count: UInt32(count), generation: 0, layerPage: UInt32(layer.pageCount)))
      try storing("the snapshot's memory could not be written") { () throws(SystemError) in try layer.append(pages) }
    }
  }
}
