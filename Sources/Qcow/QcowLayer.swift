import Glibc
package import LinuxSystem
import SystemPackage

/// The cluster tables of one qcow2 file, read through a descriptor.
///
/// The file may be hostile, and may be written by a captured VMM while it is read: every table is read once into
/// memory, checked there, and used from there. An entry that points outside the file, at the header, or at a cluster
/// that another entry uses is an error, so that no file can make a reader copy more than it holds. The content of data
/// clusters is not looked at: it is the guest's own. All calls block.
package final class QcowLayer {
  package let header: QcowHeader
  let descriptor: OwnedDescriptor
  let fileBytes: Int64
  private let l1: [UInt64]
  /// One bit per cluster of the file that is in use.
  private var used: [UInt64]
  private var table = [UInt64](repeating: 0, count: QcowGeometry.entriesPerL2Table * 2)

  /// Offset of a table or cluster in its entry. Source: qcow2.txt, "Cluster mapping".
  private static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
  private static let isExclusive: UInt64 = 1 << 63

  /// What one L2 entry says.
  struct Cluster {
    /// Where the cluster is in the file; 0 when none of its subclusters is stored.
    var offset: Int64
    /// Subclusters that are stored, the first one lowest.
    var stored: UInt32
    /// Subclusters that read as zeros.
    var zero: UInt32
  }

  /// Checks that the file is a qcow2 file of ours, and reads its L1 table.
  ///
  /// - Parameters:
  ///   - descriptor: open for reading; its offset is changed by copying.
  ///   - sizeBytes: the size of the disk, when the caller knows it.
  package init(
    _ descriptor: OwnedDescriptor, sizeBytes: Int64? = nil, ignoresBackingName: Bool = false
  ) throws(QcowError) {
    self.descriptor = descriptor
    (header, fileBytes) = try Self.header(
      of: descriptor, sizeBytes: sizeBytes, ignoresBackingName: ignoresBackingName)
    let clusters = Int((fileBytes + QcowGeometry.clusterBytes - 1) / QcowGeometry.clusterBytes)
    used = [UInt64](repeating: 0, count: (clusters + 63) / 64)
    l1 = try Self.numbers(header.l1Entries, at: header.l1Offset, of: descriptor)
    for offset in [0, header.refcountTableOffset, header.l1Offset] { try claim(offset, "the header's own") }
  }

  /// Checks the header alone.
  /// - Returns: the header, and the length of the file.
  @discardableResult
  package static func header(
    of descriptor: OwnedDescriptor, sizeBytes: Int64? = nil, ignoresBackingName: Bool = false
  ) throws(QcowError) -> (header: QcowHeader, fileBytes: Int64) {
    let fileBytes: Int64
    var prefix = [UInt8](repeating: 0, count: QcowHeader.prefixBytes)
    do throws(SystemError) {
      let status = try FileStatus.of(descriptor: descriptor.rawValue)
      guard status.kind == .file else { throw SystemError("fstat", .invalidArgument) }
      fileBytes = status.sizeBytes
      let count = try prefix.withUnsafeMutableBufferPointer { buffer throws(SystemError) in
        try read(UnsafeMutableRawBufferPointer(buffer), at: 0, of: descriptor)
      }
      prefix.removeLast(prefix.count - count)
    } catch {
      throw .system(error)
    }
    do throws(QcowFormatError) {
      let header = try QcowHeader(parsing: prefix, fileBytes: fileBytes, ignoresBackingName: ignoresBackingName)
      guard sizeBytes.map({ $0 == header.sizeBytes }) ?? true else { throw QcowFormatError.diskSize(header.sizeBytes) }
      return (header, fileBytes)
    } catch {
      throw .format(error)
    }
  }

  /// Reads the L2 table that maps `index` × `QcowGeometry.bytesPerL2Table` of the disk and what follows.
  ///
  /// To be called once for each index, in any order.
  /// - Returns: whether there is one; `cluster(_:)` then tells its entries.
  func loadTable(_ index: Int) throws(QcowError) -> Bool {
    guard index < l1.count, l1[index] != 0 else { return false }
    guard l1[index] & ~(Self.offsetMask | Self.isExclusive) == 0 else { throw .format(.entry("reserved bits in L1")) }
    let offset = Int64(l1[index] & Self.offsetMask)
    try claim(offset, "an L2 table")
    table = try Self.numbers(QcowGeometry.entriesPerL2Table * 2, at: offset, of: descriptor)
    return true
  }

  /// An entry of the table that was loaded last.
  func cluster(_ index: Int) throws(QcowError) -> Cluster {
    let (entry, bitmap) = (table[index * 2], table[index * 2 + 1])
    if entry | bitmap == 0 { return Cluster(offset: 0, stored: 0, zero: 0) }
    let cluster = Cluster(
      offset: Int64(entry & Self.offsetMask), stored: UInt32(truncatingIfNeeded: bitmap),
      zero: UInt32(truncatingIfNeeded: bitmap >> 32))
    guard entry & ~(Self.offsetMask | Self.isExclusive) == 0 else { throw .format(.entry("compressed or reserved")) }
    guard cluster.stored & cluster.zero == 0 else { throw .format(.entry("both stored and zero")) }
    if cluster.offset != 0 {
      try claim(cluster.offset, "a data cluster")
    } else if cluster.stored != 0 {
      throw .format(.entry("stored nowhere"))
    }
    return cluster
  }

  private func claim(_ offset: Int64, _ purpose: String) throws(QcowError) {
    guard offset >= 0, offset % QcowGeometry.clusterBytes == 0, offset < fileBytes else {
      throw .format(.entry("\(purpose) outside the file"))
    }
    let cluster = Int(offset / QcowGeometry.clusterBytes)
    let bit: UInt64 = 1 << UInt64(cluster % 64)
    guard used[cluster / 64] & bit == 0 else { throw .format(.entry("\(purpose) that is in use already")) }
    used[cluster / 64] |= bit
  }

  /// Big-endian numbers of a file; those beyond its end are zero.
  private static func numbers(
    _ count: Int, at offset: Int64, of descriptor: OwnedDescriptor
  ) throws(QcowError) -> [UInt64] {
    var numbers = [UInt64](repeating: 0, count: count)
    do throws(SystemError) {
      _ = try numbers.withUnsafeMutableBufferPointer { buffer throws(SystemError) in
        try read(UnsafeMutableRawBufferPointer(buffer), at: offset, of: descriptor)
      }
    } catch {
      throw .system(error)
    }
    for index in numbers.indices { numbers[index] = UInt64(bigEndian: numbers[index]) }
    return numbers
  }

  /// - Returns: the bytes read: fewer than asked for only at the end of the file.
  private static func read(
    _ buffer: UnsafeMutableRawBufferPointer, at offset: Int64, of descriptor: OwnedDescriptor
  ) throws(SystemError) -> Int {
    var done = 0
    while done < buffer.count {
      let count = try SystemError.check("pread") {
        pread(
          descriptor.rawValue, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(offset) + off_t(done))
      }
      if count == 0 { break }
      done += count
    }
    return done
  }
}
