import Glibc
import LinuxSystem
import Model
import Snapshots
import SystemPackage

/// Resolves the page faults of one VM from the memory of a generation.
///
/// Reads messages and resolves them in one thread without sleeping; `PagerLoop` decides when to look for messages.
/// Every page is compared with its checksum before a guest sees it.
final class PageServer {
  /// Attempts to place one window while changes of the VM's memory interrupt them. An interruption ends when its
  /// message is read.
  private static let maximumAttempts = 100_000

  let image: MemoryImage
  let faults: UserFaultDescriptor
  private let regions: MemoryRegions
  private let removed: RemovedPages
  /// Pages that are known to be in the VM's memory. After a predecessor's work there may be others.
  private let resident: PageBitmap
  private var window: FaultWindow
  /// Time of the last resolved fault in nanoseconds, and whether the waiting faults came soon after it.
  private var resolvedAt: UInt64 = 0
  private var isHurried = false
  /// Whether the kernel tracks writes to pages that are placed.
  private var protects = true
  private var events: [UserFaultEvent] = []
  private var pending: [PageIndex] = []
  /// Windows placed since messages were last read; threads that waited for their pages have been woken.
  private var placed: [Range<PageIndex>] = []
  private(set) var statistics: PagerStatistics
  /// Called with each window that was placed for a fault.
  var onWindow: ((Range<PageIndex>) -> Void)?

  init(
    image: MemoryImage, regions: MemoryRegions, faults: UserFaultDescriptor, removed: RemovedPages, window: FaultWindow,
    statistics: PagerStatistics
  ) {
    self.image = image
    self.regions = regions
    self.faults = faults
    self.removed = removed
    self.window = window
    self.statistics = statistics
    resident = PageBitmap(pageCount: image.pageCount)
    events.reserveCapacity(MessageInbox.capacity)
  }

  /// Makes this process the reader of the VM's messages, and records removals that a predecessor had read.
  func takeOver() throws(SystemError) {
    for addresses in try removed.inbox.takeOver() { remove(addresses) }
    removed.inbox.settle()
  }

  /// From now on `window` decides how many pages a fault places.
  func use(_ window: FaultWindow) {
    self.window = window
  }

  /// Resolves every waiting fault.
  /// - Returns: whether there was one.
  func serveWaiting() throws(PagerError) -> Bool {
    // Some faults may have been read earlier, while pages were being prefetched.
    guard try takeMessages() || !pending.isEmpty else { return false }
    isHurried = MonotonicClock.nanoseconds - resolvedAt < FaultWindow.hurryNanoseconds
    var index = 0
    while index < pending.count {
      try serve(pending[index])
      index += 1
    }
    pending.removeAll(keepingCapacity: true)
    resolvedAt = MonotonicClock.nanoseconds
    return true
  }

  /// Wakes every thread that waits for a page, so that it faults again: the messages of faults that a predecessor had
  /// read are lost.
  func wakeAll() throws(PagerError) {
    for region in regions.regions {
      do {
        try faults.wake(at: region.address, bytes: UInt64(region.pages.count * MemoryGeometry.pageBytes))
      } catch {
        throw error.errno == .noSuchProcess ? .machineEnded : .system(error)
      }
    }
  }

  /// Places pages before they fault, with content that the caller has verified. Pages that the guest has already, or
  /// has removed, are left out. A change of the guest's memory ends the call early.
  func push(_ pages: Range<PageIndex>, from source: UnsafeRawBufferPointer) throws(PagerError) {
    guard let source = source.baseAddress else { return }
    for region in regions.regions where region.pages.overlaps(pages) {
      for part in wanted(region.pages.clamped(to: pages)) {
        let bytes = source + (part.lowerBound - pages.lowerBound) * MemoryGeometry.pageBytes
        let before = statistics.pagesCopied
        let progress = try place(part, .copy(bytes), in: region, faulting: nil)
        statistics.pagesPrefetched += statistics.pagesCopied - before
        statistics.pagesCopied = before
        guard progress == .done else {
          _ = try takeMessages()
          return
        }
      }
    }
  }

  /// The runs of `pages` that are neither in the VM's memory nor removed.
  private func wanted(_ pages: Range<PageIndex>) -> [Range<PageIndex>] {
    var runs: [Range<PageIndex>] = []
    var page = pages.lowerBound
    while page < pages.upperBound {
      let isWanted = !resident.contains(page) && !removed.bitmap.contains(page)
      let end = min(
        resident.endOfRun(from: page, limit: pages.upperBound),
        removed.bitmap.endOfRun(from: page, limit: pages.upperBound))
      if isWanted { runs.append(page..<end) }
      page = end
    }
    return runs
  }

  // MARK: - Messages

  /// Reads waiting messages: adds faults to `pending` and records removals.
  private func takeMessages() throws(PagerError) -> Bool {
    do {
      try removed.inbox.take(from: faults, into: &events)
    } catch {
      throw .system(error)
    }
    placed.removeAll(keepingCapacity: true)
    for event in events {
      switch event {
      case .page(let address): pending.append(try page(at: address))
      case .remove(let addresses): remove(addresses)
      case .other: break
      }
    }
    removed.inbox.settle()
    return !events.isEmpty
  }

  private func page(at address: UInt64) throws(PagerError) -> PageIndex {
    guard let region = regions.region(at: address) else { throw .refused("a page fault is outside of the memory") }
    return region.pages.lowerBound + Int(address - region.address) / MemoryGeometry.pageBytes
  }

  private func remove(_ addresses: Range<UInt64>) {
    for pages in regions.pages(in: addresses) {
      removed.bitmap.insert(pages)
      resident.remove(pages)
      statistics.removedPages += pages.count
    }
  }

  // MARK: - Answers

  private func serve(_ page: PageIndex) throws(PagerError) {
    statistics.faults += 1
    guard !placed.contains(where: { $0.contains(page) }) else { return }
    guard let region = regions.regions.first(where: { $0.pages.contains(page) }) else { return }
    let pages = window.pages(around: page, within: region.pages, isHurried: isHurried)
    // A thread waits for this page, so the page is not there, even if it was recorded as placed.
    resident.remove(page..<(page + 1))
    for _ in 0..<Self.maximumAttempts {
      if try placeMissing(pages, in: region, faulting: page) == .done {
        placed.append(pages)
        onWindow?(pages)
        return
      }
      if try !takeMessages() { sched_yield() }
    }
    throw .refused("it keeps changing")
  }

  private enum Progress {
    case done
    /// The VM's memory is being changed: messages must be read first.
    case interrupted
  }

  private enum Content {
    case copy(UnsafeRawPointer)
    case zeros
  }

  /// Places those of `pages` that are missing.
  private func placeMissing(
    _ pages: Range<PageIndex>, in region: MemoryRegions.Region, faulting: PageIndex
  ) throws(PagerError) -> Progress {
    var page = pages.lowerBound
    while page < pages.upperBound {
      let end = resident.endOfRun(from: page, limit: pages.upperBound)
      if !resident.contains(page), try fill(page..<end, in: region, faulting: faulting) == .interrupted {
        return .interrupted
      }
      page = end
    }
    return .done
  }

  private func fill(
    _ pages: Range<PageIndex>, in region: MemoryRegions.Region, faulting: PageIndex
  ) throws(PagerError) -> Progress {
    var page = pages.lowerBound
    while page < pages.upperBound {
      let end = removed.bitmap.endOfRun(from: page, limit: pages.upperBound)
      let progress =
        removed.bitmap.contains(page)
        ? try place(page..<end, .zeros, in: region, faulting: faulting)
        : try fillFromImage(page..<end, in: region, faulting: faulting)
      if progress == .interrupted { return .interrupted }
      page = end
    }
    return .done
  }

  private func fillFromImage(
    _ pages: Range<PageIndex>, in region: MemoryRegions.Region, faulting: PageIndex
  ) throws(PagerError) -> Progress {
    for extent in image.extents(in: pages) {
      var content = Content.zeros
      if case .stored(let stored) = extent.source, let bytes = stored.bytes.baseAddress {
        if let damaged = stored.firstDamaged { throw .unservable(image.damage(at: extent.pages.lowerBound + damaged)) }
        content = .copy(bytes)
      }
      if try place(extent.pages, content, in: region, faulting: faulting) == .interrupted { return .interrupted }
    }
    return .done
  }

  private func place(
    _ pages: Range<PageIndex>, _ content: Content, in region: MemoryRegions.Region, faulting: PageIndex?
  ) throws(PagerError) -> Progress {
    var page = pages.lowerBound
    while page < pages.upperBound {
      let outcome = issue(page..<pages.upperBound, content, offset: page - pages.lowerBound, in: region)
      let count = outcome.bytes / MemoryGeometry.pageBytes
      resident.insert(page..<(page + count))
      switch content {
      case .copy: statistics.pagesCopied += count
      case .zeros: statistics.pagesZeroed += count
      }
      page += count
      // A part was placed; the next operation returns the reason why no more was placed.
      guard count == 0, let failure = outcome.failure else { continue }
      guard try handle(failure, at: page, in: region, faulting: faulting) else { return .interrupted }
      if failure == .fileExists || failure == .noSuchFileOrDirectory { page += 1 }
    }
    return .done
  }

  private func issue(
    _ pages: Range<PageIndex>, _ content: Content, offset: Int, in region: MemoryRegions.Region
  ) -> UserFaultOutcome {
    let address = region.address(of: pages.lowerBound)
    let bytes = pages.count * MemoryGeometry.pageBytes
    switch content {
    case .zeros:
      return faults.zero(at: address, bytes: bytes)
    case .copy(let source):
      return faults.copy(
        to: address, from: source + offset * MemoryGeometry.pageBytes, bytes: bytes, protects: protects)
    }
  }

  /// - Returns: whether to continue; false when messages must be read first.
  private func handle(
    _ failure: Errno, at page: PageIndex, in region: MemoryRegions.Region, faulting: PageIndex?
  ) throws(PagerError) -> Bool {
    switch failure {
    case .fileExists:
      resident.insert(page..<(page + 1))
      if page == faulting { wake(page, in: region) }
      return true
    case .noSuchFileOrDirectory:
      // The page is no longer mapped: a VMM unmaps its memory while it exits. Waiting threads find that out.
      if page == faulting { wake(page, in: region) }
      return true
    case .resourceTemporarilyUnavailable:
      return false
    case .invalidArgument where protects:
      // The VMM or the kernel does not support write tracking.
      protects = false
      return true
    case .noSuchProcess:
      throw .machineEnded
    case .badAddress:
      throw .unservable(image.damage(at: page))
    case .noMemory:
      throw .unservable(MartletError(.hostUnavailable, "the host has no memory left for the sandbox"))
    default:
      throw .refused("the kernel says \(failure)")
    }
  }

  private func wake(_ page: PageIndex, in region: MemoryRegions.Region) {
    // If the VMM has exited, no thread waits and the error is expected.
    try? faults.wake(at: region.address(of: page), bytes: UInt64(MemoryGeometry.pageBytes))
  }
}
