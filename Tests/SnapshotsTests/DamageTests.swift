import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

/// Changes files of a chain of generations in many ways: what is read afterwards is right or refused.
@Suite("Damaged files")
struct DamageTests {
  @Test("1,000 flipped bits in all files: each is detected, or what is read is right")
  func flippedBits() throws {
    let subject = try Subject()
    var random = Seeded(21)
    var refused = 0
    for _ in 0..<1_000 {
      let file = subject.randomFile(&random)
      var bytes = subject.originals[file] ?? []
      let bit = Int.random(in: 0..<(bytes.count * 8), using: &random)
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      if try subject.isRefused(file, bytes) { refused += 1 }
    }
    // Half of the files are the parents' manifests, headers, devices and disks, which are not read; most of the other
    // changes are detected.
    #expect(refused > 300)
  }

  @Test(
    "truncated, lengthened, spliced and overwritten files are detected, or what is read is right",
    arguments: Damage.allCases)
  func damage(_ damage: Damage) throws {
    let subject = try Subject()
    var random = Seeded(UInt64(damage.rawValue) + 31)
    var refused = 0
    for _ in 0..<350 {
      let file = subject.randomFile(&random)
      let original = subject.originals[file] ?? []
      let other = subject.originals[subject.randomFile(&random)] ?? []
      if try subject.isRefused(file, damage.apply(to: original, other: other, &random)) { refused += 1 }
    }
    #expect(refused > 0)
  }

  enum Damage: Int, CaseIterable {
    case truncated, lengthened, moved, spliced, zeroed, random

    func apply(to bytes: [UInt8], other: [UInt8], _ random: inout Seeded) -> [UInt8] {
      let at = Int.random(in: 0..<max(1, bytes.count), using: &random)
      let count = Int.random(in: 1...max(1, min(5_000, bytes.count - at)), using: &random)
      var result = bytes
      switch self {
      case .truncated: return Array(bytes.prefix(at))
      case .lengthened: return bytes + (0..<count).map { _ in UInt8.random(in: 0...1, using: &random) }
      case .moved:
        let from = Int.random(in: 0...(bytes.count - count), using: &random)
        result.replaceSubrange(at..<(at + count), with: bytes[from..<(from + count)])
      case .spliced: return Array(bytes.prefix(at)) + other.suffix(Int.random(in: 0...other.count, using: &random))
      case .zeroed: result.replaceSubrange(at..<(at + count), with: [UInt8](repeating: 0, count: count))
      case .random:
        result.replaceSubrange(
          at..<(at + count), with: (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
      }
      return result
    }
  }
}

/// Three generations of a small memory, the last with a working set.
private struct Subject {
  private let fixture: Fixture
  private let newest: Generation
  private let memory: PlainMemory
  private let paths: [FilePath]
  let originals: [FilePath: [UInt8]]

  init() throws {
    fixture = try Fixture()
    var random = Seeded(20)
    var memory = PlainMemory(pages: 12)
    for page in 0..<8 { memory[page] = random.page() }
    let first = try fixture.save(memory, dirty: [0..<8])
    for page in 2..<4 { memory[page] = random.page() }
    let second = try fixture.save(memory, dirty: [2..<4], parent: first)
    memory[3] = random.page()
    memory[5] = [UInt8](repeating: 0, count: PlainMemory.pageBytes)
    newest = try fixture.save(memory, dirty: [3..<4, 5..<6], parent: second)
    let image = try MemoryImage.open(newest, in: fixture.store)
    try WorkingSet.write([1, 2, 3, 5], of: image, to: newest.workingSetPath)
    self.memory = memory
    var originals: [FilePath: [UInt8]] = [:]
    for generation in [first, second, newest] {
      for name in try Directories.names(in: generation.directory) {
        let path = generation.directory.appending(name)
        originals[path] = try Array(Data(contentsOf: URL(fileURLWithPath: path.string)))
      }
    }
    self.originals = originals
    paths = originals.keys.sorted { $0.string < $1.string }
  }

  func randomFile(_ random: inout Seeded) -> FilePath {
    paths.randomElement(using: &random) ?? fixture.base
  }

  /// Whether `bytes` in place of the file are refused. If not, the content that is read is compared.
  func isRefused(_ path: FilePath, _ bytes: [UInt8]) throws -> Bool {
    try replace(path, bytes)
    defer { try? replace(path, originals[path] ?? []) }
    let store = SnapshotStore(directory: fixture.store.directory, logger: Fixture.logger)
    do {
      let opened = try store.generation(newest.id)
      try store.verify(opened)
      #expect(opened == newest)
      #expect(try fixture.read(opened, from: store) == memory)
      for kept in [opened.devicePath, opened.diskPath] {
        #expect(try Array(Data(contentsOf: URL(fileURLWithPath: kept.string))) == originals[kept])
      }
      return try !hasWorkingSet(opened, store)
    } catch let error as MartletError {
      #expect([.snapshotDamaged, .snapshotIncompatible].contains(error.code), "\(error)")
      return true
    }
  }

  private func hasWorkingSet(_ generation: Generation, _ store: SnapshotStore) throws -> Bool {
    let image = try MemoryImage.open(generation, in: store)
    guard let set = WorkingSet.load(generation.workingSetPath, for: image) else { return false }
    set.forEachRun { pages, bytes in
      for (index, page) in pages.enumerated() {
        #expect(Array(bytes[(index * 4_096)..<((index + 1) * 4_096)]) == memory[page])
      }
    }
    return true
  }

  private func replace(_ path: FilePath, _ bytes: [UInt8]) throws {
    try StoreFile.remove(path)
    try StoreFile.create(path, bytes, mode: 0o600)
  }
}
