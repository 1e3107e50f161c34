import Testing

@testable import Qcow

@Suite("The qcow2 header")
struct QcowHeaderTests {
  static let sizeBytes: Int64 = 5 << 30
  static let fileBytes: Int64 = 8 << 17

  @Test("every field is at its specified offset, and no file is named")
  func bytes() throws {
    let pieces = QcowHeader.emptyOverlay(sizeBytes: Self.sizeBytes)
    #expect(pieces.map(\.offset) == [0, 131_072, 262_144])
    let expected: [UInt8] =
      [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3]  // magic, version
      + [UInt8](repeating: 0, count: 12)  // no backing file name
      + [0, 0, 0, 17, 0, 0, 0, 1, 0x40, 0, 0, 0]  // cluster bits, size 5 GiB
      + [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 6, 0, 0]  // no encryption, 5 L1 entries at cluster 3
      + [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1]  // refcount table at cluster 1, one cluster
      + [UInt8](repeating: 0, count: 12)  // snapshots
      + [0, 0, 0, 0, 0, 0, 0, 0x10] + [UInt8](repeating: 0, count: 16)  // extended L2; nothing else
      + [0, 0, 0, 4, 0, 0, 0, 104]  // 16-bit refcounts, header length
      + [UInt8](repeating: 0, count: 8)  // end of extensions
    #expect(pieces[0].bytes == expected)
    #expect(pieces[1].bytes == [0, 0, 0, 0, 0, 4, 0, 0])
    #expect(pieces[2].bytes == [0, 1, 0, 1, 0, 1, 0, 1])
  }

  @Test("the largest size fits one L1 cluster")
  func maximum() {
    #expect(QcowGeometry.maximumSizeBytes >= 1 << 40)
    let pieces = QcowHeader.emptyOverlay(sizeBytes: QcowGeometry.maximumSizeBytes)
    #expect(Array(pieces[0].bytes[36..<40]) == [0, 0, 0x40, 0])
  }

  @Test("what is written is read")
  func roundTrip() throws {
    let header = QcowHeader(sizeBytes: Self.sizeBytes, l1Offset: 2 << 17, refcountTableOffset: 1 << 17)
    #expect(try QcowHeader(parsing: header.encoded(), fileBytes: Self.fileBytes) == header)
  }

  // MARK: - Hostile headers

  /// A field that is overwritten, big-endian.
  struct Attack: CustomTestStringConvertible {
    let testDescription: String
    let offset: Int
    let bytes: [UInt8]
    let error: QcowFormatError

    init(_ name: String, _ offset: Int, _ value: some FixedWidthInteger, _ error: QcowFormatError) {
      (testDescription, self.offset, bytes, self.error) = (name, offset, QcowHeader.bigEndian(value), error)
    }
  }

  static let attacks: [Attack] = [
    Attack("another magic", 0, UInt32(0x5146_49FA), .header("magic")),
    Attack("version 2", 4, UInt32(2), .header("version")),
    Attack("version 4", 4, UInt32(4), .header("version")),
    Attack("a backing file name", 8, UInt64(112), .namesFile),
    Attack("a length of a backing file name", 16, UInt32(11), .namesFile),
    Attack("clusters of 64 KiB", 20, UInt32(16), .header("cluster size")),
    Attack("clusters of 2^255 bytes", 20, UInt32(255), .header("cluster size")),
    Attack("a disk without size", 24, UInt64(0), .header("disk size")),
    Attack("a disk of 2^64 - 1 bytes", 24, UInt64.max, .header("disk size")),
    Attack("a disk of 2^63 bytes", 24, UInt64(1) << 63, .header("disk size")),
    Attack("a disk of an odd size", 24, UInt64(sizeBytes + 1), .header("disk size")),
    Attack("another disk size", 24, UInt64(sizeBytes * 2), .header("L1 size")),
    Attack("LUKS encryption", 32, UInt32(2), .header("encryption")),
    Attack("a huge L1 table", 36, UInt32.max, .header("L1 size")),
    Attack("an L1 table of one entry more", 36, UInt32(6), .header("L1 size")),
    Attack("an L1 table at the header", 40, UInt64(0), .header("L1 table")),
    Attack("an L1 table beyond the file", 40, UInt64(fileBytes), .header("L1 table")),
    Attack("an L1 table at 2^63", 40, UInt64(1) << 63, .header("L1 table")),
    Attack("an L1 table between clusters", 40, UInt64(3 << 17 + 512), .header("L1 table")),
    Attack("the L1 table in the refcount table", 40, UInt64(1 << 17), .header("L1 table")),
    Attack("a refcount table beyond the file", 48, UInt64.max - 131_071, .header("refcount table")),
    Attack("a refcount table of many clusters", 56, UInt32.max, .header("refcount table size")),
    Attack("internal snapshots", 60, UInt32(1), .header("list of internal snapshots")),
    Attack("a table of internal snapshots", 64, UInt64(1 << 17), .header("list of internal snapshots")),
    Attack("dirty refcounts", 72, UInt64(0x11), .header("incompatible feature")),
    Attack("a corrupt image", 72, UInt64(0x12), .header("incompatible feature")),
    Attack("an external data file", 72, UInt64(0x14), .header("incompatible feature")),
    Attack("another compression", 72, UInt64(0x18), .header("incompatible feature")),
    Attack("plain L2 entries", 72, UInt64(0), .header("incompatible feature")),
    Attack("an unknown incompatible feature", 72, UInt64(1) << 63 | 0x10, .header("incompatible feature")),
    Attack("lazy refcounts", 80, UInt64(1), .header("compatible feature")),
    Attack("bitmaps", 88, UInt64(1), .header("autoclear feature")),
    Attack("a raw external data file", 88, UInt64(2), .header("autoclear feature")),
    Attack("refcounts of 64 bits", 96, UInt32(6), .header("refcount size")),
    Attack("a short header", 100, UInt32(72), .header("header length")),
    Attack("a long header", 100, UInt32(4_088), .header("header length")),
    Attack("a header of 2^32 - 1 bytes", 100, UInt32.max, .header("header length")),
    Attack("the name of an external data file", 104, UInt32(0x4441_5441), .headerExtension(0x4441_5441)),
    Attack("a backing file format", 104, UInt32(0xE279_2ACA), .headerExtension(0xE279_2ACA)),
    Attack("bitmaps in an extension", 104, UInt32(0x2385_2875), .headerExtension(0x2385_2875)),
    Attack("an encryption header", 104, UInt32(0x0537_BE77), .headerExtension(0x0537_BE77)),
    Attack("an unknown extension", 104, UInt32(0x1234_5678), .headerExtension(0x1234_5678)),
    Attack("an end marker with content", 108, UInt32(8), .headerExtension(0)),
    Attack("an end marker with 4 GiB of content", 108, UInt32.max, .headerExtension(0)),
    Attack("feature names of 47 bytes", 104, UInt64(0x6803_F857) << 32 | 47, .headerExtension(0x6803_F857)),
    Attack("feature names beyond the header", 104, UInt64(0x6803_F857) << 32 | 48_000, .headerExtension(0x6803_F857)),
  ]

  static var header: [UInt8] {
    let bytes = QcowHeader.emptyOverlay(sizeBytes: sizeBytes)[0].bytes
    return bytes + [UInt8](repeating: 0, count: QcowHeader.prefixBytes - bytes.count)
  }

  @Test("a header that is not ours is refused, naming the field", arguments: attacks)
  func refused(attack: Attack) {
    var bytes = Self.header
    bytes.replaceSubrange(attack.offset..<(attack.offset + attack.bytes.count), with: attack.bytes)
    #expect(throws: attack.error) { try QcowHeader(parsing: bytes, fileBytes: Self.fileBytes) }
    // Also by who takes the headers of earlier versions, but for the names in them.
    guard attack.error != .namesFile, attack.error != .headerExtension(0xE279_2ACA) else { return }
    #expect(throws: attack.error) {
      try QcowHeader(parsing: bytes, fileBytes: Self.fileBytes, ignoresBackingName: true)
    }
  }

  @Test("a header that is cut short anywhere is refused")
  func short() {
    for count in 0..<112 {
      #expect(throws: QcowFormatError.self) {
        try QcowHeader(parsing: Array(Self.header.prefix(count)), fileBytes: Self.fileBytes)
      }
    }
  }

  @Test("extensions without end are refused")
  func endless() {
    var bytes = Self.header
    let names = QcowHeader.bigEndian(UInt64(0x6803_F857) << 32)
    for offset in stride(from: 104, to: bytes.count, by: 8) {
      bytes.replaceSubrange(offset..<(offset + 8), with: names)
    }
    #expect(throws: QcowFormatError.header("list of extensions")) {
      try QcowHeader(parsing: bytes, fileBytes: Self.fileBytes)
    }
  }

  @Test("a file that is far longer than its disk is refused")
  func long() {
    #expect(throws: QcowFormatError.fileSize(1 << 50)) {
      try QcowHeader(parsing: Self.header, fileBytes: 1 << 50)
    }
  }
}
