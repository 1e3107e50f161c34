import Testing

@testable import Disks

@Suite("The qcow2 header")
struct QcowHeaderTests {
  @Test("every field is where the specification requires it")
  func bytes() throws {
    let pieces = QcowHeader(sizeBytes: 5 << 30, backingName: "/images/abc.ext4", backingFormat: .raw).pieces()
    #expect(pieces.map(\.offset) == [0, 131_072, 262_144])
    let expected: [UInt8] =
      [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3]  // magic, version
      + [0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 16]  // backing name: offset, length
      + [0, 0, 0, 17, 0, 0, 0, 1, 0x40, 0, 0, 0]  // cluster bits, size 5 GiB
      + [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 6, 0, 0]  // no encryption, 5 L1 entries at cluster 3
      + [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1]  // refcount table at cluster 1, one cluster
      + [UInt8](repeating: 0, count: 12)  // snapshots
      + [0, 0, 0, 0, 0, 0, 0, 0x10] + [UInt8](repeating: 0, count: 16)  // extended L2; nothing else
      + [0, 0, 0, 4, 0, 0, 0, 104]  // 16-bit refcounts, header length
      + [0xE2, 0x79, 0x2A, 0xCA, 0, 0, 0, 3, 0x72, 0x61, 0x77, 0, 0, 0, 0, 0]  // backing format "raw"
      + [UInt8](repeating: 0, count: 8)  // end of extensions
      + Array("/images/abc.ext4".utf8)
    #expect(pieces[0].bytes == expected)
    #expect(pieces[1].bytes == [0, 0, 0, 0, 0, 4, 0, 0])
    #expect(pieces[2].bytes == [0, 1, 0, 1, 0, 1, 0, 1])
  }

  @Test("the largest size fits one L1 cluster")
  func maximum() {
    #expect(QcowHeader.maximumSizeBytes >= 1 << 40)
    let pieces = QcowHeader(sizeBytes: QcowHeader.maximumSizeBytes, backingName: "/b", backingFormat: .qcow2).pieces()
    #expect(Array(pieces[0].bytes[36..<40]) == [0, 0, 0x40, 0])
  }
}
