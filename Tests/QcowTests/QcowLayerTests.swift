import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import Testing

@testable import Qcow

@Suite("Merging qcow2 layers")
struct QcowLayerTests {
  /// A guest's writes: data, zeros and discards, aligned to sectors, pages and clusters.
  private func writes(_ random: inout Seeded) -> [String] {
    (0..<Int.random(in: 1...24, using: &random)).map { _ in
      let unit = [512, 4_096, 131_072].randomElement(using: &random) ?? 512
      let count = Int.random(in: 1...(1 << 20) / unit, using: &random)
      let most = Bool.random(using: &random) ? min(count, 8) : min(count, 512)
      let length = most * unit
      let offset = Int.random(in: 0...(Int(Scratch.sizeBytes) - length) / unit, using: &random) * unit
      switch Int.random(in: 0..<8, using: &random) {
      case 0: return "write -z \(offset) \(length)"
      case 1: return "write -z -u \(offset) \(length)"
      case 2: return "discard \(offset) \(length)"
      default: return "write -P \(Int.random(in: 1...255, using: &random)) \(offset) \(length)"
      }
    }
  }

  @Test("a merger of any layers reads as they do in QEMU, and QEMU finds no fault in it", arguments: 0..<12)
  func merges(seed: UInt64) async throws {
    let scratch = try Scratch()
    var random = Seeded(seed)
    var files: [FilePath] = []
    for number in 0..<Int.random(in: 2...5, using: &random) {
      files.insert(try scratch.overlay("layer-\(number)"), at: 0)
      try await scratch.write(writes(&random), to: files)
    }
    let content = try await scratch.content(files)
    let before = try files.map(scratch.bytes)
    for count in 1...files.count {
      let merged = scratch.path.appending("merged-\(count)")
      try QcowLayerWriter.write(files.prefix(count).map { try scratch.layer($0) }, to: merged, mode: 0o400)
      #expect(try await scratch.content([merged] + files.dropFirst(count)) == content)
      let check = try await Tool.run("qemu-img", ["check", merged.string])
      #expect(check.isSuccess && check.outputText.contains("No errors"), "\(check.outputText)\(check.errorText)")
      // Merged once more it is the same.
      let again = scratch.path.appending("again-\(count)")
      try QcowLayerWriter.write([scratch.layer(merged)], to: again, mode: 0o400)
      #expect(try scratch.bytes(again) == scratch.bytes(merged))
    }
    #expect(try files.map(scratch.bytes) == before)
  }

  @Test("holes stay holes: a merger takes hardly more room than what is stored")
  func sparse() async throws {
    let scratch = try Scratch()
    let file = try scratch.overlay("layer", sizeBytes: 1 << 30)
    try await scratch.write((0..<256).map { "write -P 7 \($0 * 4_000)k 4k" }, to: [file])
    let merged = scratch.path.appending("merged")
    try QcowLayerWriter.write([scratch.layer(file, sizeBytes: 1 << 30)], to: merged, mode: 0o400)
    let status = try #require(try FileStatus.of(merged.string, followingLinks: false))
    #expect(((1 << 20)...(2 << 20)).contains(status.allocatedBytes), "\(status.allocatedBytes)")
  }

  @Test("an empty layer, and one of the largest disk, can be merged")
  func extremes() async throws {
    let scratch = try Scratch()
    let largest = QcowGeometry.maximumSizeBytes
    let file = try scratch.overlay("layer", sizeBytes: largest)
    let empty = scratch.path.appending("empty")
    try QcowLayerWriter.write([scratch.layer(file, sizeBytes: largest)], to: empty, mode: 0o400)
    #expect(try await Tool.run("qemu-img", ["check", empty.string]).isSuccess)
    try await scratch.write(["write -P 9 \(largest - 65_536) 64k", "write -P 8 0 4k"], to: [file])
    let merged = scratch.path.appending("merged")
    try QcowLayerWriter.write([scratch.layer(file, sizeBytes: largest)], to: merged, mode: 0o400)
    try await scratch.write(
      ["read -P 9 \(largest - 65_536) 64k", "read -P 8 0 4k", "read -P 1 4k 4k"],
      to: [try scratch.overlay("top", sizeBytes: largest), merged])
  }

  @Test("a lower disk that is longer than the upper one is refused, and an existing file is never replaced")
  func refusals() throws {
    let scratch = try Scratch()
    let (short, long) = (try scratch.overlay("short", sizeBytes: 1 << 20), try scratch.overlay("long"))
    let merged = scratch.path.appending("merged")
    #expect(throws: QcowError.self) {
      try QcowLayerWriter.write(
        [scratch.layer(short, sizeBytes: nil), scratch.layer(long)], to: merged, mode: 0o400)
    }
    #expect(throws: QcowError.self) { try QcowLayerWriter.write([], to: merged, mode: 0o400) }
    #expect(access(merged.string, F_OK) != 0)
    #expect(throws: QcowError.self) { try QcowLayerWriter.write([scratch.layer(long)], to: short, mode: 0o400) }
    #expect(try Int64(scratch.bytes(short).count) == QcowHeader.emptyFileBytes)
    #expect(throws: QcowError.self) { try scratch.layer(short) }
  }

  // MARK: - Hostile tables

  enum Attack: CaseIterable {
    case l1BeyondFile, l1Unaligned, l1Reserved, l1AtHeader, l1Twice, l1AtL1
    case beyondFile, unaligned, compressed, zeroFlag, reserved, atHeader, twice, atItsTable, nowhere, storedAndZero
  }

  @Test("a table that points anywhere but at clusters of its own is refused", arguments: Attack.allCases)
  func hostile(attack: Attack) async throws {
    let scratch = try Scratch()
    let file = try scratch.overlay("layer", sizeBytes: 4 << 30)
    try await scratch.write(["write -P 1 0 128k", "write -P 2 1M 4k", "write -P 3 2G 4k"], to: [file])
    let bytes = try scratch.bytes(file)
    func number(_ offset: Int) -> UInt64 { bytes[offset..<(offset + 8)].reduce(0) { $0 << 8 | UInt64($1) } }
    let l1 = 3 << 17
    let l2 = Int(number(l1) & 0x00FF_FFFF_FFFF_FE00)
    let entry = number(l2)
    let (offset, value): (Int, UInt64) =
      switch attack {
      case .l1BeyondFile: (l1, 1 << 63 | 1 << 40)
      case .l1Unaligned: (l1, number(l1) + 512)
      case .l1Reserved: (l1, number(l1) | 1 << 56)
      case .l1AtHeader: (l1 + 8, 1 << 63 | 1)
      case .l1Twice: (l1 + 8, number(l1))
      case .l1AtL1: (l1, UInt64(l1))
      case .beyondFile: (l2, 1 << 63 | 1 << 50)
      case .unaligned: (l2, entry + 4_096)
      case .compressed: (l2, entry | 1 << 62)
      case .zeroFlag: (l2, entry | 1)
      case .reserved: (l2, entry | 1 << 57)
      case .atHeader: (l2 + 16, 1 << 17)
      case .twice: (l2 + 16, entry)
      case .atItsTable: (l2 + 16, UInt64(l2))
      case .nowhere: (l2, 0)
      case .storedAndZero: (l2 + 8, UInt64.max)
      }
    var content = QcowHeader.bigEndian(value)
    if attack == .atHeader || attack == .twice || attack == .atItsTable {
      content += QcowHeader.bigEndian(UInt64(UInt32.max))
    }
    try scratch.patch(file, offset, content)
    let merged = scratch.path.appending("merged")
    let error = #expect(throws: QcowError.self) {
      try QcowLayerWriter.write([scratch.layer(file, sizeBytes: nil)], to: merged, mode: 0o400)
    }
    guard case .format(.entry) = error else { return #expect(Bool(false), "\(error as Any)") }
    #expect(access(merged.string, F_OK) != 0)
  }

  @Test("a table that points at the header's cluster names no file in the merger")
  func headerAsData() async throws {
    let scratch = try Scratch()
    let file = try scratch.overlay("layer")
    try await scratch.write(["write -P 1 0 128k"], to: [file])
    let bytes = try scratch.bytes(file)
    let l2 = bytes[(3 << 17)..<(3 << 17) + 8].reduce(UInt64(0)) { $0 << 8 | UInt64($1) } & 0x00FF_FFFF_FFFF_FE00
    try scratch.patch(file, Int(l2), QcowHeader.bigEndian(UInt64(1 << 63)))
    #expect(throws: QcowError.self) {
      try QcowLayerWriter.write([scratch.layer(file)], to: scratch.path.appending("merged"), mode: 0o400)
    }
  }

  // MARK: - Fuzzing

  /// Files that once went wrong, or look for a border; kept for ever.
  private static var corpus: [[UInt8]] {
    let directory = FilePath(#filePath).removingLastComponent().appending("Corpus")
    return ((try? Directories.names(in: directory)) ?? []).sorted().compactMap {
      (try? Data(contentsOf: URL(fileURLWithPath: directory.appending($0).string))).map { [UInt8]($0) }
    }
  }

  @Test("any bytes are read or refused, and what is read is never longer than the file")
  func fuzz() async throws {
    let scratch = try Scratch()
    let file = try scratch.overlay("seed", sizeBytes: 2 << 30)
    try await scratch.write(
      ["write -P 1 0 64k", "write -z 64k 64k", "write -P 2 1G 4k", "write -P 3 1500M 200k"], to: [file])
    let seed = try scratch.bytes(file)
    let interesting = seed.indices.filter { $0 < 160 || ($0 >= 1 << 17 && seed[$0] != 0 && $0 % (1 << 17) < 4_096) }
    let rounds = ProcessInfo.processInfo.environment["MARTLET_FUZZ_ROUNDS"].flatMap(Int.init) ?? 400
    var random = Seeded(20_261_201)
    var read = 0
    for bytes in Self.corpus { if try run(bytes, scratch) { read += 1 } }
    #expect(!Self.corpus.isEmpty)
    for _ in 0..<rounds {
      var bytes = seed
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let index = interesting.randomElement(using: &random) ?? 0
        switch Int.random(in: 0..<5, using: &random) {
        case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[index] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
        case 2: bytes[index] = UInt8.random(in: 0...255, using: &random)
        case 3:
          let source = interesting.randomElement(using: &random) ?? 0
          for offset in 0..<8 where max(index, source) + offset < bytes.count {
            bytes[index + offset] = seed[source + offset]
          }
        default:
          if Int.random(in: 0..<8, using: &random) == 0 {
            bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
          }
        }
        if bytes.count < seed.count { break }
      }
      if try run(bytes, scratch) { read += 1 }
    }
    #expect(read > 0, "no mutation left a readable file: nothing beyond the header was tried")
  }

  /// - Returns: whether the file was read to its end.
  private func run(_ bytes: [UInt8], _ scratch: Scratch) throws -> Bool {
    let (file, merged) = (scratch.path.appending("fuzzed"), scratch.path.appending("fuzzed-merged"))
    try Data(bytes).write(to: URL(fileURLWithPath: file.string))
    unlink(merged.string)
    do throws(QcowError) {
      let descriptor: OwnedDescriptor
      do throws(SystemError) {
        descriptor = try OwnedDescriptor.open(file.string, O_RDONLY)
      } catch {
        throw .system(error)
      }
      let layer = try QcowLayer(descriptor)
      try QcowLayerWriter.write([layer], to: merged, mode: 0o600)
    } catch {
      guard case .format = error else { throw error }
      #expect(access(merged.string, F_OK) != 0)
      return false
    }
    let count = try FileStatus.of(merged.string, followingLinks: false)?.sizeBytes ?? 0
    // Whatever it says, its own clusters and our tables.
    #expect(count <= Int64(bytes.count) + 8 << 17 + 131_072)
    #expect(try QcowHeader(parsing: scratch.bytes(merged), fileBytes: count).l1Offset == 2 << 17)
    return true
  }
}
