import Glibc
import LinuxSystem
package import SystemPackage

/// Writes a new layer that holds what one or several layers hold, and nothing else of theirs.
///
/// All of the metadata of the new file is made here; of the sources only what their checked tables say is used, and
/// their data clusters are copied by the kernel. Where the file system can, the copies share blocks
/// (copy_file_range(2)). The layout:
///
/// | clusters | content |
/// |---|---|
/// | 0, 1, 2 | header, refcount table, L1 table |
/// | from 3 on | L2 tables, each followed by its data, in the order of the guest's disk |
/// | at the end | refcount blocks |
package struct QcowLayerWriter {
  private static let firstFreeCluster: Int64 = 3
  private static let l1Cluster: Int64 = 2
  private static let isExclusive: UInt64 = 1 << 63

  private let sources: [QcowLayer]
  private let output: OwnedDescriptor
  private let path: FilePath
  private var nextCluster = firstFreeCluster
  private var l1: [UInt64]
  private var pending: Copy?

  private struct Copy {
    var source: Int
    var from: Int64
    var to: Int64
    var count: Int64
  }

  /// Writes the merger of `sources`, the uppermost first, to a new file. Blocks. Not synchronized.
  ///
  /// What none of them stores is left to what lies below the new layer. The guest's disk has the size of the uppermost
  /// one's.
  /// - Parameter mode: of the new file, which belongs to the caller.
  /// - Throws: `EEXIST` when the file exists. After an error there is no file.
  package static func write(_ sources: [QcowLayer], to path: FilePath, mode: UInt32) throws(QcowError) {
    guard let top = sources.first else { throw .system(SystemError("merge", .invalidArgument, subject: path.string)) }
    for (upper, lower) in zip(sources, sources.dropFirst())
    where lower.header.sizeBytes > upper.header.sizeBytes {
      // What the longer one holds beyond the shorter one's end would come back.
      throw .format(.diskSize(lower.header.sizeBytes))
    }
    let output: OwnedDescriptor
    do throws(SystemError) {
      output = try OwnedDescriptor.open(path.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
    } catch {
      throw .system(error)
    }
    do throws(QcowError) {
      var writer = QcowLayerWriter(sources: sources, output: output, path: path, l1Entries: top.header.l1Entries)
      for index in 0..<top.header.l1Entries { try writer.writeTable(index) }
      try writer.finish(sizeBytes: top.header.sizeBytes)
    } catch {
      unlink(path.string)
      throw error
    }
  }

  private init(sources: [QcowLayer], output: OwnedDescriptor, path: FilePath, l1Entries: Int) {
    self.sources = sources
    self.output = output
    self.path = path
    l1 = [UInt64](repeating: 0, count: l1Entries)
  }

  private mutating func writeTable(_ index: Int) throws(QcowError) {
    var present: [Int] = []
    for source in sources.indices where try sources[source].loadTable(index) { present.append(source) }
    guard !present.isEmpty else { return }
    let tableOffset = allocate()
    var table = [UInt64](repeating: 0, count: QcowGeometry.entriesPerL2Table * 2)
    var isEmpty = true
    for entry in 0..<QcowGeometry.entriesPerL2Table {
      let (stored, zero, offset) = try writeCluster(entry, present)
      guard stored | zero != 0 else { continue }
      isEmpty = false
      table[entry * 2] = (stored == 0 ? 0 : UInt64(offset) | Self.isExclusive).bigEndian
      table[entry * 2 + 1] = (UInt64(zero) << 32 | UInt64(stored)).bigEndian
    }
    guard !isEmpty else {
      // Nothing was allocated after it.
      nextCluster -= 1
      return
    }
    l1[index] = UInt64(tableOffset) | Self.isExclusive
    try put(table, at: tableOffset)
  }

  /// Decides for each subcluster which layer it is from, and copies those that are stored.
  private mutating func writeCluster(
    _ entry: Int, _ present: [Int]
  ) throws(QcowError) -> (stored: UInt32, zero: UInt32, offset: Int64) {
    var undecided = UInt32.max
    var (stored, zero, target): (UInt32, UInt32, Int64) = (0, 0, 0)
    for source in present {
      // Also of a layer of which nothing shows, so that every entry is checked.
      let cluster = try sources[source].cluster(entry)
      let shown = cluster.stored & undecided
      zero |= cluster.zero & undecided
      undecided &= ~(cluster.stored | cluster.zero)
      guard shown != 0 else { continue }
      if target == 0 { target = allocate() }
      stored |= shown
      try copy(shown, from: source, at: cluster.offset, to: target)
    }
    return (stored, zero, target)
  }

  private mutating func allocate() -> Int64 {
    defer { nextCluster += 1 }
    return nextCluster * QcowGeometry.clusterBytes
  }

  // MARK: - Data

  private mutating func copy(
    _ subclusters: UInt32, from source: Int, at offset: Int64, to target: Int64
  ) throws(QcowError) {
    var left = subclusters
    while left != 0 {
      let first = left.trailingZeroBitCount
      let count = (~(left >> UInt32(first))).trailingZeroBitCount
      left = first + count >= 32 ? 0 : left & (UInt32.max << UInt32(first + count))
      let begin = Int64(first) * QcowGeometry.subclusterBytes
      try enqueue(
        Copy(
          source: source, from: offset + begin, to: target + begin, count: Int64(count) * QcowGeometry.subclusterBytes))
    }
  }

  /// Neighbours in both files are copied at once.
  private mutating func enqueue(_ copy: Copy) throws(QcowError) {
    if var last = pending, last.source == copy.source, last.from + last.count == copy.from,
      last.to + last.count == copy.to
    {
      last.count += copy.count
      pending = last
      return
    }
    try flush()
    pending = copy
  }

  private mutating func flush() throws(QcowError) {
    guard let copy = pending else { return }
    pending = nil
    let input = sources[copy.source]
    // Beyond the end of a file there are zeros, which a hole in the new one stands for.
    let count = min(copy.count, input.fileBytes - copy.from)
    do throws(SystemError) {
      try SparseFile.copyRange(
        from: input.descriptor, at: copy.from, to: output, at: copy.to, count: count, path: path)
    } catch {
      throw .system(error)
    }
  }

  // MARK: - Metadata

  private mutating func finish(sizeBytes: Int64) throws(QcowError) {
    try flush()
    let cluster = QcowGeometry.clusterBytes
    let firstBlock = nextCluster
    var blocks: Int64 = 1
    while blocks * QcowGeometry.refcountsPerBlock < firstBlock + blocks { blocks += 1 }
    let total = firstBlock + blocks
    do throws(SystemError) {
      try SystemError.check("ftruncate", path.string) { ftruncate(output.rawValue, off_t(total * cluster)) }
    } catch {
      throw .system(error)
    }
    for block in 0..<blocks {
      let count = min(QcowGeometry.refcountsPerBlock, total - block * QcowGeometry.refcountsPerBlock)
      try put([UInt16](repeating: UInt16(1).bigEndian, count: Int(count)), at: (firstBlock + block) * cluster)
    }
    try put((0..<blocks).map { UInt64((firstBlock + $0) * cluster).bigEndian }, at: cluster)
    try put(l1.map(\.bigEndian), at: Self.l1Cluster * cluster)
    let header = QcowHeader(sizeBytes: sizeBytes, l1Offset: Self.l1Cluster * cluster, refcountTableOffset: cluster)
    try put(header.encoded(), at: 0)
  }

  private func put<Number>(_ numbers: [Number], at offset: Int64) throws(QcowError) {
    do throws(SystemError) {
      try numbers.withUnsafeBufferPointer { numbers throws(SystemError) in
        let bytes = UnsafeRawBufferPointer(numbers)
        var done = 0
        while done < bytes.count {
          let count = try SystemError.check("pwrite", path.string) {
            pwrite(
              output.rawValue, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset) + off_t(done))
          }
          // Only a file system without room takes nothing.
          guard count > 0 else { throw SystemError("pwrite", .noSpace, subject: path.string) }
          done += count
        }
      }
    } catch {
      throw .system(error)
    }
  }
}
