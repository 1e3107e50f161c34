import Testing

@testable import Pager

@Suite struct MemoryRegionsTests {
  private func parse(_ text: String, memoryBytes: Int64) throws(MemoryRegions.Refusal) -> MemoryRegions {
    try MemoryRegions(parsing: Array(text.utf8), memoryBytes: memoryBytes)
  }

  private func region(_ address: UInt64, _ size: UInt64, _ offset: UInt64) -> String {
    "{\"base_host_virt_addr\":\(address),\"size\":\(size),\"offset\":\(offset),"
      + "\"page_size\":4096,\"page_size_kib\":4096}"
  }

  @Test("Firecracker's message is accepted")
  func firecracker() throws {
    let regions = try parse(
      #"[{"base_host_virt_addr":140677895684096,"size":268435456,"offset":0,"page_size":4096,"page_size_kib":4096}]"#,
      memoryBytes: 268_435_456)
    #expect(regions.regions.map(\.address) == [140_677_895_684_096])
    #expect(regions.regions.map(\.pages) == [0..<65_536])
  }

  @Test("several regions in any order form one memory, and are found by address")
  func several() throws {
    let regions = try parse(
      "[\(region(0x7000_0000, 0x2000, 0x3000)),\(region(0x6000_0000, 0x3000, 0))]", memoryBytes: 0x5000)
    #expect(regions.regions.map(\.pages) == [0..<3, 3..<5])
    #expect(regions.region(at: 0x7000_1FFF)?.pages == 3..<5)
    #expect(regions.region(at: 0x7000_2000) == nil)
    #expect(regions.regions[1].address(of: 4) == 0x7000_1000)
    #expect(regions.regions[1].pages(in: 0x7000_1000..<0x7000_9000) == 4..<5)
  }

  @Test("an encoded description is decoded unchanged")
  func roundTrip() throws {
    let regions = try parse(
      "[\(region(0x7000_0000, 0x2000, 0x3000)),\(region(0x6000_0000, 0x3000, 0))]", memoryBytes: 0x5000)
    #expect(try parse(regions.encoded, memoryBytes: 0x5000) == regions)
  }

  @Test(
    "a description that no VMM would send is refused",
    arguments: [
      ("", MemoryRegions.Refusal.notUnderstood),
      ("[", .notUnderstood),
      ("{}", .notUnderstood),
      ("[]", .tooManyRegions),
      (#"[{"base_host_virt_addr":-4096,"size":20480,"offset":0}]"#, .notUnderstood),
      (#"[{"base_host_virt_addr":4096.5,"size":20480,"offset":0}]"#, .notUnderstood),
      (#"[{"base_host_virt_addr":99999999999999999999,"size":20480,"offset":0}]"#, .notUnderstood),
      (#"[{"base_host_virt_addr":"4096","size":20480,"offset":0}]"#, .notUnderstood),
      (#"[{"base_host_virt_addr":4096,"size":20480,"offset":0,"page_size":2097152}]"#, .pageSize(2_097_152)),
      (#"[{"base_host_virt_addr":4096,"size":20480,"offset":0,"page_size_kib":4}]"#, .pageSize(4)),
      (#"[{"base_host_virt_addr":4097,"size":20480,"offset":0}]"#, .misaligned),
      (#"[{"base_host_virt_addr":4096,"size":20481,"offset":0}]"#, .misaligned),
      (#"[{"base_host_virt_addr":4096,"size":20480,"offset":1}]"#, .misaligned),
      (#"[{"base_host_virt_addr":4096,"size":0,"offset":0}]"#, .wrongExtent),
      (#"[{"base_host_virt_addr":0,"size":20480,"offset":0}]"#, .wrongExtent),
      (#"[{"base_host_virt_addr":18446744073709547520,"size":20480,"offset":0}]"#, .wrongExtent),
      (#"[{"base_host_virt_addr":4096,"size":18446744073709547520,"offset":0}]"#, .wrongExtent),
      (#"[{"base_host_virt_addr":4096,"size":16384,"offset":0}]"#, .wrongExtent),
      (#"[{"base_host_virt_addr":4096,"size":24576,"offset":0}]"#, .wrongExtent),
      (#"[{"base_host_virt_addr":4096,"size":20480,"offset":4096}]"#, .wrongExtent),
      (
        #"[{"base_host_virt_addr":4096,"size":8192,"offset":0},"#
          + #"{"base_host_virt_addr":8192,"size":12288,"offset":8192}]"#,
        .overlapping
      ),
      (
        #"[{"base_host_virt_addr":4096,"size":8192,"offset":0},"#
          + #"{"base_host_virt_addr":40960,"size":12288,"offset":4096}]"#,
        .wrongExtent
      ),
      (
        #"[{"base_host_virt_addr":4096,"size":8192,"offset":0},{"base_host_virt_addr":40960,"size":12288,"offset":0}]"#,
        .wrongExtent
      ),
    ])
  func hostile(_ text: String, _ refusal: MemoryRegions.Refusal) {
    #expect(throws: refusal) { () throws(MemoryRegions.Refusal) in try parse(text, memoryBytes: 20_480) }
  }

  @Test("length, number of regions and depth are bounded")
  func bounds() {
    let many = (0..<65).map { (index: UInt64) -> String in
      let offset = index * 4_096
      return region(1_048_576 + offset, 4_096, offset)
    }
    #expect(throws: MemoryRegions.Refusal.tooManyRegions) {
      () throws(MemoryRegions.Refusal) in try parse("[" + many.joined(separator: ",") + "]", memoryBytes: 65 * 4_096)
    }
    #expect(throws: MemoryRegions.Refusal.tooLong) {
      () throws(MemoryRegions.Refusal) in try parse(String(repeating: " ", count: 65_537), memoryBytes: 4_096)
    }
    #expect(throws: MemoryRegions.Refusal.notUnderstood) {
      () throws(MemoryRegions.Refusal) in try parse(String(repeating: "[", count: 65_536), memoryBytes: 4_096)
    }
  }
}
