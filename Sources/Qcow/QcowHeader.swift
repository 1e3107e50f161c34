/// The header of a qcow2 file of ours. It names no file: what a disk lies over is told to QEMU when it opens it.
///
/// The metadata of a new, empty overlay are four clusters, of which only the first bytes are not zero. They are written
/// by ourselves, because starting `qemu-img create` takes hundreds of times longer:
///
/// | cluster | content |
/// |---|---|
/// | 0 | header, end of the header extensions |
/// | 1 | refcount table: its first entry points to cluster 2 |
/// | 2 | refcount block: clusters 0 to 3 are used once, all others free |
/// | 3 | L1 table: empty, everything is read from below |
///
/// All numbers are big-endian. Source: QEMU docs/interop/qcow2.txt.
package struct QcowHeader: Equatable, Sendable {
  /// The header and all its extensions have to lie within this much.
  package static let prefixBytes = 4_096
  static let emptyClusterCount: Int64 = 4

  static let magic: [UInt8] = [0x51, 0x46, 0x49, 0xFB]  // "QFI\xfb"
  private static let version: UInt64 = 3
  private static let bytes = 104
  /// QEMU writes 112 bytes when it changes a header; the last eight are the compression type and padding.
  private static let longBytes = 112
  private static let extendedL2Feature: UInt64 = 1 << 4
  /// Refcounts of 1 << 4 = 16 bits.
  private static let refcountOrder: UInt64 = 4
  private static let backingFormatExtension: UInt32 = 0xE279_2ACA
  private static let featureNamesExtension: UInt32 = 0x6803_F857
  private static let featureNameBytes = 48
  private static let maximumBackingNameBytes = 1_023

  /// What the guest sees.
  package let sizeBytes: Int64
  package let l1Offset: Int64
  package let refcountTableOffset: Int64

  package init(sizeBytes: Int64, l1Offset: Int64, refcountTableOffset: Int64) {
    self.sizeBytes = sizeBytes
    self.l1Offset = l1Offset
    self.refcountTableOffset = refcountTableOffset
  }

  var l1Entries: Int { QcowGeometry.l1Entries(sizeBytes: sizeBytes) }

  // MARK: - Writing

  package struct Piece: Equatable, Sendable {
    package var offset: Int64
    package var bytes: [UInt8]
  }

  /// Length of an empty overlay.
  package static var emptyFileBytes: Int64 { emptyClusterCount * QcowGeometry.clusterBytes }

  /// What is to be written where in a file of zeros, `emptyFileBytes` long, to make an empty overlay.
  /// - Precondition: the size is a positive multiple of 512 up to the maximum.
  package static func emptyOverlay(sizeBytes: Int64) -> [Piece] {
    precondition(
      sizeBytes > 0 && sizeBytes % 512 == 0 && sizeBytes <= QcowGeometry.maximumSizeBytes, "a qcow2 size out of range")
    let cluster = QcowGeometry.clusterBytes
    let header = QcowHeader(sizeBytes: sizeBytes, l1Offset: 3 * cluster, refcountTableOffset: cluster)
    return [
      Piece(offset: 0, bytes: header.encoded()),
      Piece(offset: cluster, bytes: bigEndian(UInt64(2 * cluster))),
      Piece(offset: 2 * cluster, bytes: (0..<emptyClusterCount).flatMap { _ in bigEndian(UInt16(1)) }),
    ]
  }

  /// Header and end of the extensions.
  package func encoded() -> [UInt8] {
    var bytes = Self.magic
    bytes += Self.bigEndian(UInt32(Self.version))
    bytes += Self.bigEndian(UInt64(0)) + Self.bigEndian(UInt32(0))  // no backing file name
    bytes += Self.bigEndian(QcowGeometry.clusterBits) + Self.bigEndian(UInt64(sizeBytes))
    bytes += Self.bigEndian(UInt32(0))  // no encryption
    bytes += Self.bigEndian(UInt32(l1Entries)) + Self.bigEndian(UInt64(l1Offset))
    bytes += Self.bigEndian(UInt64(refcountTableOffset)) + Self.bigEndian(UInt32(1))
    bytes += Self.bigEndian(UInt32(0)) + Self.bigEndian(UInt64(0))  // internal snapshots
    bytes += Self.bigEndian(Self.extendedL2Feature) + Self.bigEndian(UInt64(0)) + Self.bigEndian(UInt64(0))
    bytes += Self.bigEndian(UInt32(Self.refcountOrder)) + Self.bigEndian(UInt32(Self.bytes))
    return bytes + Self.bigEndian(UInt64(0))
  }

  // MARK: - Reading

  /// Reads the header of a file and accepts only what our own files have.
  ///
  /// - Parameters:
  ///   - prefix: the first bytes of the file, `prefixBytes` of them or all.
  ///   - fileBytes: the length of the file.
  ///   - ignoresBackingName: accepts a header that names a backing file, as earlier versions wrote; the name is not
  ///     used for anything.
  /// - Throws: `QcowFormatError`, naming the field.
  package init(
    parsing prefix: [UInt8], fileBytes: Int64, ignoresBackingName: Bool = false
  ) throws(QcowFormatError) {
    let field = Fields(prefix)
    guard prefix.count >= Self.bytes + 8, Array(prefix[0..<4]) == Self.magic else { throw .header("magic") }
    guard field[4, 4] == Self.version else { throw .header("version") }
    guard field[20, 4] == UInt64(QcowGeometry.clusterBits) else { throw .header("cluster size") }
    guard let size = Int64(exactly: field[24, 8]), size > 0, size % 512 == 0, size <= QcowGeometry.maximumSizeBytes
    else { throw .header("disk size") }
    guard field[32, 4] == 0 else { throw .header("encryption") }
    guard field[36, 4] == UInt64(QcowGeometry.l1Entries(sizeBytes: size)) else { throw .header("L1 size") }
    guard field[56, 4] == 1 else { throw .header("refcount table size") }
    guard field[60, 4] == 0, field[64, 8] == 0 else { throw .header("list of internal snapshots") }
    // Dirty, corrupt, external data file and compression type are among those that our files never have.
    guard field[72, 8] == Self.extendedL2Feature else { throw .header("incompatible feature") }
    guard field[80, 8] == 0 else { throw .header("compatible feature") }
    guard field[88, 8] == 0 else { throw .header("autoclear feature") }
    guard field[96, 4] == Self.refcountOrder else { throw .header("refcount size") }
    guard fileBytes <= QcowGeometry.maximumFileBytes(sizeBytes: size) else { throw .fileSize(fileBytes) }
    sizeBytes = size
    l1Offset = try Self.cluster(field[40, 8], of: fileBytes, "L1 table")
    refcountTableOffset = try Self.cluster(field[48, 8], of: fileBytes, "refcount table")
    guard l1Offset != refcountTableOffset else { throw .header("L1 table") }
    let end = try Self.endOfExtensions(prefix, field, ignoresBackingName: ignoresBackingName)
    try Self.checkBackingName(field, after: end, prefix.count, ignoresBackingName: ignoresBackingName)
  }

  private static func cluster(_ offset: UInt64, of fileBytes: Int64, _ name: String) throws(QcowFormatError) -> Int64 {
    guard let offset = Int64(exactly: offset), offset > 0, offset % QcowGeometry.clusterBytes == 0, offset < fileBytes
    else { throw .header(name) }
    return offset
  }

  /// - Returns: the offset after the end marker.
  private static func endOfExtensions(
    _ prefix: [UInt8], _ field: Fields, ignoresBackingName: Bool
  ) throws(QcowFormatError) -> Int {
    let length = field[100, 4]
    guard length == UInt64(bytes) || (length == UInt64(longBytes) && field[104, 8] == 0) else {
      throw .header("header length")
    }
    var offset = Int(length)
    while true {
      guard offset + 8 <= prefix.count else { throw .header("list of extensions") }
      let type = UInt32(field[offset, 4])
      let count = Int(field[offset + 4, 4])
      offset += 8
      guard count <= prefix.count - offset else { throw .headerExtension(type) }
      switch type {
      case 0:
        guard count == 0 else { throw .headerExtension(type) }
        return offset
      // Names for the features, to be shown to people.
      case featureNamesExtension where count % featureNameBytes == 0: break
      case backingFormatExtension where ignoresBackingName: break
      default: throw .headerExtension(type)
      }
      offset += (count + 7) / 8 * 8
    }
  }

  private static func checkBackingName(
    _ field: Fields, after end: Int, _ count: Int, ignoresBackingName: Bool
  ) throws(QcowFormatError) {
    let (offset, length) = (field[8, 8], field[16, 4])
    if offset == 0, length == 0 { return }
    guard ignoresBackingName else { throw .namesFile }
    guard length <= UInt64(maximumBackingNameBytes), offset >= UInt64(end), offset <= UInt64(count),
      offset + length <= UInt64(count)
    else { throw .header("backing file name") }
  }

  /// Big-endian numbers in a buffer; those beyond its end are zero.
  private struct Fields {
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) {
      self.bytes = bytes
    }

    subscript(offset: Int, count: Int) -> UInt64 {
      guard offset >= 0, offset + count <= bytes.count else { return 0 }
      return bytes[offset..<(offset + count)].reduce(0) { $0 << 8 | UInt64($1) }
    }
  }

  static func bigEndian<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }
}
