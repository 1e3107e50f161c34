/// The metadata of a new, empty qcow2 overlay.
///
/// It is written directly, because starting `qemu-img create` takes hundreds of times longer. The file has four
/// clusters, of which only the first bytes are not zero:
///
/// | cluster | content |
/// |---|---|
/// | 0 | header (version 3), extension "backing file format", name of the backing file |
/// | 1 | refcount table: its first entry points to cluster 2 |
/// | 2 | refcount block: clusters 0 to 3 are used once, all others free |
/// | 3 | L1 table: empty, everything is read from the backing file |
///
/// Clusters have 128 KiB with 32 subclusters each (`extended_l2`): the guest's scattered 4 KiB writes take 4 KiB
/// instead of a cluster. All numbers are big-endian. Source: QEMU docs/interop/qcow2.txt.
struct QcowHeader {
  static let clusterBits: UInt32 = 17
  static let clusterBytes: Int64 = 1 << Int64(clusterBits)
  static let clusterCount: Int64 = 4
  /// The part of the disk that one L2 table maps, with extended L2 entries of 16 bytes.
  private static let bytesPerL2Table = clusterBytes / 16 * clusterBytes
  /// The L1 table is limited to one cluster.
  static let maximumSizeBytes = clusterBytes / 8 * bytesPerL2Table
  /// A limit of the format.
  static let maximumBackingNameBytes = 1_023

  private static let headerBytes: UInt32 = 104
  private static let extendedL2Feature: UInt64 = 1 << 4
  private static let backingFormatExtension: UInt32 = 0xE279_2ACA
  /// Refcounts of 1 << 4 = 16 bits.
  private static let refcountOrder: UInt32 = 4

  let sizeBytes: Int64
  /// Absolute, so that the overlay can be moved and a colon in it is not taken for a protocol.
  let backingName: String
  let backingFormat: DiskFormat

  struct Piece: Equatable {
    var offset: Int64
    var bytes: [UInt8]
  }

  static var fileBytes: Int64 { clusterCount * clusterBytes }

  /// The pieces to write into a file of zeros that is `fileBytes` long.
  /// - Precondition: the size is a positive multiple of 512 up to the maximum, the name not longer than its maximum.
  func pieces() -> [Piece] {
    precondition(
      sizeBytes > 0 && sizeBytes % 512 == 0 && sizeBytes <= Self.maximumSizeBytes, "a qcow2 size out of range")
    precondition(
      (1...Self.maximumBackingNameBytes).contains(backingName.utf8.count), "a backing file name out of range")
    return [
      Piece(offset: 0, bytes: header()),
      Piece(offset: Self.clusterBytes, bytes: bigEndian(UInt64(2 * Self.clusterBytes))),
      Piece(offset: 2 * Self.clusterBytes, bytes: (0..<Self.clusterCount).flatMap { _ in bigEndian(UInt16(1)) }),
    ]
  }

  private func header() -> [UInt8] {
    let extensions = formatExtension()
    let name = Array(backingName.utf8)
    let nameOffset = UInt64(Self.headerBytes) + UInt64(extensions.count)
    var bytes: [UInt8] = [0x51, 0x46, 0x49, 0xFB]  // "QFI\xfb"
    bytes += bigEndian(UInt32(3))  // version
    bytes += bigEndian(nameOffset) + bigEndian(UInt32(name.count))
    bytes += bigEndian(Self.clusterBits) + bigEndian(UInt64(sizeBytes))
    bytes += bigEndian(UInt32(0))  // no encryption
    bytes += bigEndian(l1Entries) + bigEndian(UInt64(3 * Self.clusterBytes))
    bytes += bigEndian(UInt64(Self.clusterBytes)) + bigEndian(UInt32(1))  // refcount table and its clusters
    bytes += bigEndian(UInt32(0)) + bigEndian(UInt64(0))  // internal snapshots
    bytes += bigEndian(Self.extendedL2Feature) + bigEndian(UInt64(0)) + bigEndian(UInt64(0))  // feature bits
    bytes += bigEndian(Self.refcountOrder) + bigEndian(Self.headerBytes)
    return bytes + extensions + name
  }

  /// The format is named, so that QEMU does not detect it from bytes that a guest may have written. Includes the end
  /// marker.
  private func formatExtension() -> [UInt8] {
    let format = Array(backingFormat.rawValue.utf8)
    let padding = [UInt8](repeating: 0, count: (8 - format.count % 8) % 8)
    return bigEndian(Self.backingFormatExtension) + bigEndian(UInt32(format.count)) + format + padding
      + bigEndian(UInt64(0))
  }

  private var l1Entries: UInt32 {
    UInt32((sizeBytes + Self.bytesPerL2Table - 1) / Self.bytesPerL2Table)
  }

  private func bigEndian<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }
}
