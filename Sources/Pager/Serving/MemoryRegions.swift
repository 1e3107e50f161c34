import Foundation
package import Snapshots

/// The location of the guest's memory in a VMM's address space: received in the hand-shake and stored in
/// `memory-regions.json`.
///
/// `[{"base_host_virt_addr":A,"size":S,"offset":O,"page_size":4096,"page_size_kib":4096}]`; both page sizes are in
/// bytes, one of them may be missing. Source: Firecracker, src/vmm/src/persist.rs, `GuestRegionUffdMapping`.
package struct MemoryRegions: Sendable, Equatable {
  package struct Region: Sendable, Equatable {
    /// First byte in the VMM's address space.
    package let address: UInt64
    package let pages: Range<PageIndex>

    package var addresses: Range<UInt64> { address..<(address + UInt64(pages.count * MemoryGeometry.pageBytes)) }

    package func address(of page: PageIndex) -> UInt64 {
      address + UInt64((page - pages.lowerBound) * MemoryGeometry.pageBytes)
    }

    /// The pages at addresses of this region.
    package func pages(in addresses: Range<UInt64>) -> Range<PageIndex> {
      let part = addresses.clamped(to: self.addresses)
      let pageBytes = UInt64(MemoryGeometry.pageBytes)
      return
        (pages.lowerBound + Int((part.lowerBound - address) / pageBytes))..<(pages.lowerBound
        + Int((part.upperBound - address) / pageBytes))
    }
  }

  /// The reason why a description of memory is refused.
  package enum Refusal: Error, Sendable, Equatable {
    case tooLong
    case notUnderstood
    case tooManyRegions
    case pageSize(UInt64)
    case misaligned
    case overlapping
    /// The regions are not exactly the memory of the snapshot.
    case wrongExtent
  }

  package static let fileName = "memory-regions.json"
  package static let maximumBytes = 65_536
  static let maximumRegions = 64
  /// User space of x86-64 ends at this address.
  private static let addressLimit: UInt64 = 1 << 47

  /// In order of the guest's memory, without gaps.
  package let regions: [Region]

  /// The pages in an address range, which may span several regions.
  func pages(in addresses: Range<UInt64>) -> [Range<PageIndex>] {
    regions.filter { $0.addresses.overlaps(addresses) }.map { $0.pages(in: addresses) }
  }

  /// Validates a description from another process.
  /// - Parameter memoryBytes: size of the memory that the regions must cover exactly.
  package init(parsing text: [UInt8], memoryBytes: Int64) throws(Refusal) {
    guard text.count <= Self.maximumBytes else { throw .tooLong }
    guard let raw = try? JSONDecoder().decode([RawRegion].self, from: Data(text)) else { throw .notUnderstood }
    guard (1...Self.maximumRegions).contains(raw.count) else { throw .tooManyRegions }
    var regions: [Region] = []
    var next: UInt64 = 0
    for region in raw.sorted(by: { $0.offset < $1.offset }) {
      try Self.check(region)
      guard region.offset == next else { throw .wrongExtent }
      next += region.size
      regions.append(Region(address: region.address, pages: Self.page(region.offset)..<Self.page(next)))
    }
    guard next == UInt64(clamping: memoryBytes) else { throw .wrongExtent }
    let ascending = regions.sorted { $0.address < $1.address }
    for (lower, upper) in zip(ascending, ascending.dropFirst()) where lower.addresses.upperBound > upper.address {
      throw .overlapping
    }
    self.regions = regions
  }

  /// The region that contains an address.
  package func region(at address: UInt64) -> Region? {
    regions.first { $0.addresses.contains(address) }
  }

  /// The text that `init(parsing:memoryBytes:)` accepts.
  package var encoded: String {
    let pageBytes = MemoryGeometry.pageBytes
    let texts = regions.map { region in
      let offset = region.pages.lowerBound * pageBytes
      let size = region.pages.count * pageBytes
      return
        "{\"base_host_virt_addr\":\(region.address),\"size\":\(size),\"offset\":\(offset),\"page_size\":\(pageBytes),"
        + "\"page_size_kib\":\(pageBytes)}"
    }
    return "[\(texts.joined(separator: ","))]"
  }

  private static func check(_ region: RawRegion) throws(Refusal) {
    let pageBytes = UInt64(MemoryGeometry.pageBytes)
    for size in [region.pageSize, region.pageSizeMisnamed].compactMap({ $0 }) where size != pageBytes {
      throw .pageSize(size)
    }
    guard region.address % pageBytes == 0, region.size % pageBytes == 0, region.offset % pageBytes == 0 else {
      throw .misaligned
    }
    guard region.size > 0, region.size <= UInt64(MemoryGeometry.maximumMemoryBytes), region.address > 0,
      region.address <= addressLimit - region.size
    else { throw .wrongExtent }
  }

  private static func page(_ offset: UInt64) -> PageIndex { PageIndex(offset / UInt64(MemoryGeometry.pageBytes)) }
}

private struct RawRegion: Decodable {
  let address: UInt64
  let size: UInt64
  let offset: UInt64
  let pageSize: UInt64?
  let pageSizeMisnamed: UInt64?

  enum CodingKeys: String, CodingKey {
    case address = "base_host_virt_addr"
    case size, offset
    case pageSize = "page_size"
    case pageSizeMisnamed = "page_size_kib"
  }
}
