/// The one form that our qcow2 files have: version 3, clusters of 128 KiB with 32 subclusters of 4 KiB each
/// (`extended_l2`), so that the guest's scattered 4 KiB writes take 4 KiB, not a cluster.
///
/// Source: QEMU docs/interop/qcow2.txt.
package enum QcowGeometry {
  package static let clusterBits: UInt32 = 17
  package static let clusterBytes: Int64 = 1 << Int64(clusterBits)
  package static let subclusterBytes = clusterBytes / 32
  /// An extended L2 entry has 16 bytes.
  static let entriesPerL2Table = Int(clusterBytes / 16)
  /// One L2 table maps this much of the disk.
  static let bytesPerL2Table = Int64(entriesPerL2Table) * clusterBytes
  /// The L1 table is kept to one cluster.
  package static let maximumSizeBytes = clusterBytes / 8 * bytesPerL2Table
  /// Refcounts of 16 bits.
  static let refcountsPerBlock = clusterBytes / 2

  static func l1Entries(sizeBytes: Int64) -> Int {
    Int((sizeBytes + bytesPerL2Table - 1) / bytesPerL2Table)
  }

  /// Twice the disk and a gigabyte: far more than data, tables and refcounts of a disk take.
  static func maximumFileBytes(sizeBytes: Int64) -> Int64 { 2 * sizeBytes + 1 << 30 }
}
