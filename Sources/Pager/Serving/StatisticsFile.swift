import LinuxSystem
import SystemPackage

/// `pager.stats` in the run directory: counters of a pager, mapped by it and read by the host agent.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | magic `MARTLETS` |
/// | 8 | 7 × 8 | `PagerStatistics` in the order of its properties, little-endian; the last is 0 or 1 |
final class StatisticsFile {
  static let fileName = "pager.stats"
  private static let magic: UInt64 = 0x5354_454C_5452_414D
  private static let bytes = 64

  private let file: SharedFile
  private let words: UnsafeMutableBufferPointer<UInt64>

  init(in runDirectory: FilePath) throws(SystemError) {
    file = try SharedFile(runDirectory.appending(Self.fileName), sizeBytes: Self.bytes)
    words = file.bytes.bindMemory(to: UInt64.self)
    words[0] = Self.magic.littleEndian
  }

  /// The counters, including a predecessor's; zeros in a new file.
  var value: PagerStatistics {
    get { Self.decode(Array(words)) }
    set {
      let values = [
        newValue.faults, newValue.pagesCopied, newValue.pagesZeroed, newValue.pagesPrefetched, newValue.removedPages,
        newValue.busyMicroseconds, newValue.foundDamagedWorkingSet ? 1 : 0,
      ]
      for (index, value) in values.enumerated() { words[index + 1] = UInt64(clamping: value).littleEndian }
    }
  }

  /// - Throws: `SystemError` with EINVAL for a file of another format.
  static func read(in runDirectory: FilePath) throws(SystemError) -> PagerStatistics {
    let path = runDirectory.appending(fileName).string
    let content = try SmallFile.read(path)
    guard content.count == bytes else { throw SystemError("read", .invalidArgument, subject: path) }
    let words = content.withUnsafeBytes { raw in
      (0..<(bytes / 8)).map { UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
    }
    guard words[0] == magic else { throw SystemError("read", .invalidArgument, subject: path) }
    return decode(words)
  }

  private static func decode(_ words: [UInt64]) -> PagerStatistics {
    var value = PagerStatistics()
    let numbers = words.map { Int(clamping: UInt64(littleEndian: $0)) }
    value.faults = numbers[1]
    value.pagesCopied = numbers[2]
    value.pagesZeroed = numbers[3]
    value.pagesPrefetched = numbers[4]
    value.removedPages = numbers[5]
    value.busyMicroseconds = numbers[6]
    value.foundDamagedWorkingSet = numbers[7] != 0
    return value
  }
}
