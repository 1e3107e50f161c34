import LinuxSystem
import Model
import Snapshots
import SystemPackage

/// Copies the memory of a stopped guest from its VMM, which takes no part and is not changed.
///
/// The content of a page:
///
/// | VMM | page | content |
/// |---|---|---|
/// | booted (anonymous memory) | populated | its own |
/// | | any other | zero |
/// | restored (userfaultfd) | written since it was placed; where writes are not tracked: populated | its own |
/// | | removed by the guest, and not written since | zero |
/// | | any other | the parent's |
struct MemoryDump {
  private let vmm: Int32
  private let regions: MemoryRegions
  private let scan: PageScan
  private let method: PageScan.Method
  private let isRestored: Bool
  /// Nil when nothing was given back.
  private let removed: RemovedPages?

  /// Opens all that is needed; reads nothing that the guest still changes.
  /// - Parameter method: how the kernel is asked which pages there are; nil for its best.
  init(vmm: Int32, runDirectory: FilePath, memoryBytes: Int64, method: PageScan.Method? = nil) throws(MartletError) {
    self.vmm = vmm
    do {
      let text = try SmallFile.read(runDirectory.appending(MemoryRegions.fileName).string)
      regions = try MemoryRegions(parsing: text, memoryBytes: memoryBytes)
      scan = try PageScan(pid: vmm)
      isRestored = UserFaultDescriptor.number(in: vmm) != nil
      let hasRemoved =
        try FileStatus.of(runDirectory.appending(RemovedPages.fileName).string, followingLinks: false) != nil
      let pageCount = Int(memoryBytes) / MemoryGeometry.pageBytes
      removed = hasRemoved ? try RemovedPages(in: runDirectory, pageCount: pageCount) : nil
    } catch {
      throw MartletError(.internalError, "the sandbox's memory could not be read", cause: error)
    }
    self.method = method ?? scan.bestMethod(at: regions.regions[0].address)
  }

  /// Hands every page that may differ from the parent's to `writer`, in order. Blocks.
  /// - Precondition: the guest is stopped.
  func write(to writer: MemoryLayerWriter) throws(MartletError) {
    let gather = MemoryGather(vmm: vmm, writer: writer)
    do {
      let removed = try removed?.settled(in: regions)
      for region in regions.regions { try write(region, removed, to: gather) }
      try gather.flush()
    } catch let error as MartletError {
      throw error
    } catch {
      throw MartletError(.internalError, "the sandbox's memory could not be read", cause: error)
    }
  }

  private func write(_ region: MemoryRegions.Region, _ removed: PageBitmap?, to gather: MemoryGather) throws {
    let selection: PageScan.Selection = isRestored && scan.isTracked(region.addresses) ? .written : .populated
    var next = region.pages.lowerBound
    try scan.forEachRange(in: region.addresses, selection, method: method) { addresses in
      let pages = region.pages(in: addresses)
      try skip(next..<pages.lowerBound, removed, gather)
      try gather.take(pages, at: addresses.lowerBound)
      next = pages.upperBound
    }
    try skip(next..<region.pages.upperBound, removed, gather)
  }

  /// Pages that have no content of their own.
  private func skip(_ pages: Range<PageIndex>, _ removed: PageBitmap?, _ gather: MemoryGather) throws {
    guard isRestored else { return try gather.takeZeros(pages) }
    guard let removed else { return }
    var page = pages.lowerBound
    while page < pages.upperBound {
      let end = removed.endOfRun(from: page, limit: pages.upperBound)
      if removed.contains(page) { try gather.takeZeros(page..<end) }
      page = end
    }
  }
}

/// Reads scattered pages of a process with few system calls and passes them on in order. Its memory is bounded.
private final class MemoryGather {
  private static let bufferPages = 256
  /// Maximum number of queued pieces before a read.
  private static let maximumPieces = ProcessMemory.maximumRanges

  private enum Piece {
    case content(Range<PageIndex>)
    case zeros(Range<PageIndex>)
  }

  private let vmm: Int32
  private let writer: MemoryLayerWriter
  private let buffer: UnsafeMutableRawBufferPointer
  private var pieces: [Piece] = []
  private var addresses: [Range<UInt64>] = []
  private var waiting = 0

  init(vmm: Int32, writer: MemoryLayerWriter) {
    self.vmm = vmm
    self.writer = writer
    buffer = .allocate(byteCount: Self.bufferPages * MemoryGeometry.pageBytes, alignment: MemoryGeometry.pageBytes)
  }

  deinit {
    buffer.deallocate()
  }

  func take(_ pages: Range<PageIndex>, at address: UInt64) throws {
    var page = pages.lowerBound
    while page < pages.upperBound {
      if waiting == Self.bufferPages || pieces.count == Self.maximumPieces { try flush() }
      let part = page..<min(pages.upperBound, page + Self.bufferPages - waiting)
      let start = address + UInt64((page - pages.lowerBound) * MemoryGeometry.pageBytes)
      pieces.append(.content(part))
      addresses.append(start..<(start + UInt64(part.count * MemoryGeometry.pageBytes)))
      waiting += part.count
      page = part.upperBound
    }
  }

  func takeZeros(_ pages: Range<PageIndex>) throws {
    guard !pages.isEmpty else { return }
    if pieces.count == Self.maximumPieces { try flush() }
    pieces.append(.zeros(pages))
  }

  /// Reads the queued pieces and passes everything on.
  func flush() throws {
    try ProcessMemory.read(pid: vmm, ranges: addresses, into: buffer)
    var offset = 0
    for piece in pieces {
      switch piece {
      case .zeros(let pages):
        try writer.markZero(pages)
      case .content(let pages):
        let bytes = pages.count * MemoryGeometry.pageBytes
        try writer.append(UnsafeRawBufferPointer(rebasing: buffer[offset..<(offset + bytes)]), at: pages.lowerBound)
        offset += bytes
      }
    }
    pieces.removeAll(keepingCapacity: true)
    addresses.removeAll(keepingCapacity: true)
    waiting = 0
  }
}
