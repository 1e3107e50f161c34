/// The head of `working.set`, a whole number of pages; the pages follow it in the order of the runs. Little-endian:
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | magic `MARTLETW` |
/// | 8 | 4 | version, 1 |
/// | 12 | 4 | page size, 4,096 |
/// | 16 | 4 | number of runs |
/// | 20 | 4 | number of pages |
/// | 24 | 8 each | run: first page (4), pages (4); in ascending order |
/// | … | | zeros |
/// | end of the head - 4 | 4 | CRC-32C of all bytes of the head before |
struct WorkingSetLayout: Equatable {
  static let magic = Array("MARTLETW".utf8)
  static let version: UInt32 = 1
  private static let fixedBytes = 24
  private static let runBytes = 8
  static let maximumFileBytes =
    headBytes(runs: WorkingSet.maximumPages) + WorkingSet.maximumPages * MemoryGeometry.pageBytes

  let runs: [WorkingSet.Run]
  let pageCount: Int

  var dataOffset: Int { Self.headBytes(runs: runs.count) }
  var fileBytes: Int { dataOffset + pageCount * MemoryGeometry.pageBytes }

  /// Joins pages, given in any order, into runs.
  init(_ pages: some Sequence<PageIndex>) {
    var runs: [WorkingSet.Run] = []
    let sorted = Set(pages).sorted()
    for page in sorted {
      if let last = runs.last, Int(last.first) + Int(last.count) == page {
        runs[runs.count - 1].count += 1
      } else {
        runs.append(.init(first: UInt32(page), count: 1))
      }
    }
    self.runs = runs
    pageCount = sorted.count
  }

  /// Nil unless `file` is valid, complete, and within a memory of `memoryPages` pages.
  init?(decoding file: UnsafeRawBufferPointer, pageCount memoryPages: Int) {
    guard file.count >= MemoryGeometry.pageBytes else { return nil }
    var reader = ByteReader(file)
    guard reader.readBytes(Self.magic.count) == Self.magic, reader.readUInt32() == Self.version else { return nil }
    guard reader.readUInt32() == UInt32(MemoryGeometry.pageBytes) else { return nil }
    let runCount = Int(reader.readUInt32())
    let pageCount = Int(reader.readUInt32())
    guard runCount <= pageCount, pageCount <= WorkingSet.maximumPages else { return nil }
    let head = Self.headBytes(runs: runCount)
    guard file.count == head + pageCount * MemoryGeometry.pageBytes else { return nil }
    guard ByteReader.hasTrailingChecksum(UnsafeRawBufferPointer(rebasing: file[0..<head])) else { return nil }
    runs = (0..<runCount).map { _ in WorkingSet.Run(first: reader.readUInt32(), count: reader.readUInt32()) }
    self.pageCount = pageCount
    guard isInOrder(memoryPages) else { return nil }
  }

  private func isInOrder(_ memoryPages: Int) -> Bool {
    var next = 0
    var sum = 0
    for run in runs {
      guard run.count > 0, Int(run.first) >= next, Int(run.first) + Int(run.count) <= memoryPages else { return false }
      next = Int(run.first) + Int(run.count)
      sum += Int(run.count)
    }
    return sum == pageCount
  }

  func encodedHead() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: dataOffset) { buffer, count in
      var writer = ByteWriter(UnsafeMutableRawBufferPointer(buffer))
      writer.write(Self.magic)
      writer.write(Self.version)
      writer.write(UInt32(MemoryGeometry.pageBytes))
      writer.write(UInt32(runs.count))
      writer.write(UInt32(pageCount))
      for run in runs {
        writer.write(run.first)
        writer.write(run.count)
      }
      writer.skip(to: dataOffset - MemoryHeader.checksumBytes)
      writer.writeChecksum()
      count = writer.offset
    }
  }

  private static func headBytes(runs: Int) -> Int {
    let bytes = fixedBytes + runs * runBytes + MemoryHeader.checksumBytes
    return (bytes + MemoryGeometry.pageBytes - 1) / MemoryGeometry.pageBytes * MemoryGeometry.pageBytes
  }
}
