import CLinux
import Glibc
import SystemPackage

/// Finds pages of another process that have content of their own. Needs root; does not affect the process.
///
/// Source: Linux, Documentation/admin-guide/mm/pagemap.rst
package final class PageScan: Sendable {
  package enum Selection: Sendable {
    /// Pages that exist, in memory or in swap, except the kernel's zero page.
    case populated
    /// The populated pages that were written after a userfaultfd had placed them write-protected.
    case written
  }

  /// The kernel interface to use.
  package enum Method: Sendable, CaseIterable {
    /// PAGEMAP_SCAN, Linux 6.7 and newer.
    case scan
    /// One word per page, any kernel. Cannot distinguish the zero page and counts it as populated.
    case table
  }

  package static let pageSizeBytes = 4_096
  /// Regions that one call returns at most.
  private static let regionsPerCall = 1_024
  /// Words that one read returns at most.
  private static let entriesPerRead = 32_768
  /// pagemap: bits 63 (present), 62 (swapped), 57 (write-protected by userfaultfd).
  private static let existsMask: UInt64 = 1 << 63 | 1 << 62
  private static let protectedMask: UInt64 = 1 << 57

  private let descriptor: OwnedDescriptor
  private let path: String

  package init(pid: Int32) throws(SystemError) {
    path = "/proc/\(pid)/pagemap"
    descriptor = try OwnedDescriptor.open(path, O_RDONLY)
  }

  /// The best method that this kernel supports.
  package func bestMethod(at address: UInt64) -> Method {
    var walked: UInt64 = 0
    var region = clinux_page_region()
    let result = clinux_pagemap_scan(
      descriptor.rawValue, address, address + UInt64(Self.pageSizeBytes), 0, 0, UInt64(CLINUX_PAGE_PRESENT), 0, &region,
      1,
      &walked)
    return result >= 0 ? .scan : .table
  }

  /// Whether writes to the range are tracked, so that `Selection.written` is meaningful.
  package func isTracked(_ range: Range<UInt64>) -> Bool {
    var walked: UInt64 = 0
    var region = clinux_page_region()
    let result = clinux_pagemap_scan(
      descriptor.rawValue, range.lowerBound, range.upperBound, 0, 0, UInt64(CLINUX_PAGE_PRESENT), 1, &region, 1, &walked
    )
    return result >= 0
  }

  /// Calls `body` with the address ranges of selected pages, in ascending order.
  package func forEachRange(
    in range: Range<UInt64>, _ selection: Selection, method: Method, _ body: (Range<UInt64>) throws -> Void
  ) throws {
    switch method {
    case .scan: try scan(range, selection, body)
    case .table: try readTable(range, selection, body)
    }
  }

  private func scan(_ range: Range<UInt64>, _ selection: Selection, _ body: (Range<UInt64>) throws -> Void) throws {
    let written = selection == .written ? UInt64(CLINUX_PAGE_WRITTEN) : 0
    let exists = UInt64(CLINUX_PAGE_PRESENT | CLINUX_PAGE_SWAPPED)
    var regions = [clinux_page_region](repeating: clinux_page_region(), count: Self.regionsPerCall)
    var start = range.lowerBound
    /// End of the last range that was passed to `body`.
    var reportedEnd = range.lowerBound
    while start < range.upperBound {
      var walked: UInt64 = 0
      let count = clinux_pagemap_scan(
        descriptor.rawValue, start, range.upperBound, written, UInt64(CLINUX_PAGE_PFNZERO), exists, 0, &regions,
        regions.count,
        &walked)
      guard count >= 0 else { throw SystemError("PAGEMAP_SCAN", Errno(rawValue: -Int32(count)), subject: path) }
      // With huge pages a call may stop inside a region that it has returned in full; the next call then returns the
      // rest again.
      for region in regions[0..<Int(count)] where region.end > reportedEnd {
        try body(max(region.start, reportedEnd)..<region.end)
        reportedEnd = region.end
      }
      guard max(walked, reportedEnd) > start else { throw SystemError("PAGEMAP_SCAN", .ioError, subject: path) }
      start = max(walked, reportedEnd)
    }
  }

  private func readTable(_ range: Range<UInt64>, _ selection: Selection, _ body: (Range<UInt64>) throws -> Void) throws
  {
    let page = UInt64(Self.pageSizeBytes)
    var entries = [UInt64](repeating: 0, count: Self.entriesPerRead)
    var runStart: UInt64?
    var address = range.lowerBound
    while address < range.upperBound {
      let wanted = min(entries.count, Int((range.upperBound - address) / page))
      let bytes = try SystemError.check("pread", path) {
        pread(descriptor.rawValue, &entries, wanted * 8, off_t(address / page * 8))
      }
      guard bytes >= 8 else { break }
      for entry in entries[0..<(bytes / 8)] {
        let exists = entry & Self.existsMask != 0
        if exists && (selection == .populated || entry & Self.protectedMask == 0) {
          runStart = runStart ?? address
        } else if let start = runStart {
          runStart = nil
          try body(start..<address)
        }
        address += page
      }
    }
    if let start = runStart { try body(start..<address) }
  }
}
