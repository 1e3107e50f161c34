import Concurrency
import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

@Suite("Publishing and opening generations")
struct PublicationTests {
  @Test("a published generation is read back unchanged, also by another store")
  func roundTrip() throws {
    let fixture = try Fixture()
    let memory = PlainMemory(pages: 8)
    let published = try fixture.save(memory, dirty: [0..<8])
    #expect(try fixture.store.generation(published.id) == published)
    let other = SnapshotStore(directory: fixture.store.directory, logger: Fixture.logger)
    #expect(try other.generation(published.id) == published)
    #expect(try other.generations() == [published])
    try other.verify(published)
    #expect(Set(published.manifest.digests.keys) == ["memory.header", "device.state", "disk.layer"])
    #expect(Set(published.manifest.sizes.keys) == ["memory.header", "memory.layer", "device.state", "disk.layer"])
    #expect(published.manifest.createdAt == Date(timeIntervalSince1970: 1_700_000_000.125))
    #expect(try other.chainLength(of: published.id) == 1)
  }

  @Test("a draft is invisible, and discarding it is idempotent")
  func discard() throws {
    let fixture = try Fixture()
    let (draft, _) = try fixture.draft(PlainMemory(pages: 4), dirty: [0..<4])
    #expect(throws: MartletError.self) { try fixture.store.generation(draft.id) }
    #expect(try fixture.store.generations() == [])
    try fixture.store.discard(draft)
    try fixture.store.discard(draft)
    #expect(try Directories.names(in: fixture.store.draftsDirectory) == [])
  }

  @Test("an id is used once")
  func once() throws {
    let fixture = try Fixture()
    let generation = try fixture.save(PlainMemory(pages: 4), dirty: [])
    let error = #expect(throws: MartletError.self) { try fixture.store.begin(generation.id) }
    #expect(error?.code == .alreadyExists)
  }

  @Test("opening an unknown generation is not_found")
  func unknown() throws {
    let fixture = try Fixture()
    let error = #expect(throws: MartletError.self) { try fixture.store.generation(GenerationID()) }
    #expect(error?.code == .notFound)
  }

  @Test("a draft without one of its files is refused and stays unchanged", arguments: SnapshotFile.content)
  func incomplete(file: SnapshotFile) throws {
    let fixture = try Fixture()
    let (draft, manifest) = try fixture.draft(PlainMemory(pages: 4), dirty: [0..<4])
    try FileManager.default.removeItem(atPath: draft.path(of: file).string)
    let error = #expect(throws: MartletError.self) { try fixture.store.publish(draft, manifest) }
    #expect(error?.code == .snapshotDamaged)
    #expect(error?.message.contains(file.rawValue) == true)
    #expect(try Directories.names(in: draft.directory).count == 3)
    #expect(try fixture.store.generations() == [])
  }

  @Test(
    "a generation that lost a file, or part of one, is refused by name", arguments: SnapshotFile.content, [true, false])
  func lost(file: SnapshotFile, whole: Bool) throws {
    let fixture = try Fixture()
    let generation = try fixture.save(PlainMemory(pages: 4), dirty: [0..<4])
    let path = generation.path(of: file).string
    if whole {
      try FileManager.default.removeItem(atPath: path)
    } else {
      let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
      try handle.truncate(atOffset: try handle.seekToEnd() - 1)
    }
    let error = #expect(throws: MartletError.self) { try fixture.store.generation(generation.id) }
    #expect(error?.code == .snapshotDamaged)
    #expect(error?.message.contains(file.rawValue) == true)
    #expect(error?.message.contains("\(generation.id)") == true)
    #expect(try fixture.store.generations() == [])
  }

  @Test("the loss of a parent's layer is detected in the child")
  func lostParent() throws {
    let fixture = try Fixture()
    var random = Seeded(9)
    var memory = PlainMemory(pages: 4)
    memory[0] = random.page()
    memory[1] = random.page()
    let first = try fixture.save(memory, dirty: [0..<4])
    memory[1] = random.page()
    let second = try fixture.save(memory, dirty: [1..<2], parent: first)
    try FileManager.default.removeItem(atPath: first.memoryPath.string)
    let error = #expect(throws: MartletError.self) { try fixture.store.generation(second.id) }
    #expect(error?.code == .snapshotDamaged)
    #expect(error?.message.contains("\(first.id)") == true)
  }

  @Test("a file of another generation in place of the right one is detected", arguments: SnapshotFile.content)
  func swapped(file: SnapshotFile) throws {
    let fixture = try Fixture()
    var random = Seeded(10)
    var memory = PlainMemory(pages: 4)
    memory[0] = random.page()
    let first = try fixture.save(memory, dirty: [0..<4])
    memory[0] = random.page()
    let second = try fixture.save(memory, dirty: [0..<4])
    try FileManager.default.removeItem(atPath: second.path(of: file).string)
    try FileManager.default.copyItem(atPath: first.path(of: file).string, toPath: second.path(of: file).string)
    let error = #expect(throws: MartletError.self) {
      try fixture.store.verify(try fixture.store.generation(second.id))
    }
    #expect(error?.code == .snapshotDamaged)
  }

  @Test("a file is digested again only when it changed on disk")
  func remembered() throws {
    let fixture = try Fixture()
    let generation = try fixture.save(PlainMemory(pages: 4), dirty: [])
    let digests = ["device.state", "disk.layer"].compactMap { generation.manifest.digests[$0] }
    // Too new for its times to distinguish it from a later change.
    try fixture.store.verify(generation)
    #expect(fixture.store.verified.withLock { $0.digests.count } == 0)
    try fixture.store.verify(generation, atSeconds: Int64(Date().timeIntervalSince1970) + 10)
    #expect(fixture.store.verified.withLock { Set($0.digests.values) } == Set(digests))
    try fixture.store.verify(generation)
    try flip(bit: 100, in: generation.devicePath.string)
    let error = #expect(throws: MartletError.self) { try fixture.store.verify(generation) }
    #expect(error?.message.contains("device.state") == true)
  }

  @Test("a generation of a newer format is refused as incompatible, not as damaged")
  func newer() throws {
    let fixture = try Fixture()
    let (draft, _) = try fixture.draft(PlainMemory(pages: 4), dirty: [])
    var manifest = try fixture.manifest(draft.id, memoryBytes: 4 * 4_096, parent: nil)
    manifest.format = 2
    let error = #expect(throws: MartletError.self) { try fixture.store.publish(draft, manifest) }
    #expect(error?.code == .snapshotIncompatible)
  }

  @Test("a disk layer that names a file, or is none, is refused", arguments: BadDisk.allCases)
  func badDisk(disk: BadDisk) throws {
    let fixture = try Fixture()
    let (draft, manifest) = try fixture.draft(PlainMemory(pages: 4), dirty: [])
    let bytes = disk.bytes(base: fixture.base.string)
    try Data(bytes).write(to: URL(fileURLWithPath: draft.diskPath.string))
    let error = #expect(throws: MartletError.self) { try fixture.store.publish(draft, manifest) }
    #expect(error?.code == .snapshotDamaged)
    #expect(error?.message.contains("disk.layer") == true)
  }

  enum BadDisk: CaseIterable {
    case secretBacking, ownBacking, otherFormat, dataFile, notQcow, empty

    func bytes(base: String) -> [UInt8] {
      switch self {
      case .secretBacking: DiskLayerBytes.layer(over: "/etc/shadow", payload: "")
      case .ownBacking: DiskLayerBytes.layer(over: base, payload: "")
      case .otherFormat: DiskLayerBytes.layer(over: base, format: "qcow2", payload: "")
      case .dataFile: DiskLayerBytes.layer(features: 1 << 4 | 1 << 2, payload: "")
      case .notQcow: [UInt8](repeating: 0, count: 1_000)
      case .empty: []
      }
    }
  }

  @Test("all files of a generation, and the directories of the store, are root's alone")
  func modes() throws {
    let fixture = try Fixture()
    let generation = try fixture.save(PlainMemory(pages: 4), dirty: [0..<2])
    for name in try Directories.names(in: generation.directory) {
      let status = try FileStatus.of(generation.directory.appending(name).string, followingLinks: false)
      #expect(status?.mode == 0o400 && status?.ownerUID == geteuid(), "\(name)")
    }
    let directories =
      [generation.directory, fixture.store.directory] + [
        fixture.store.generationsDirectory, fixture.store.draftsDirectory, fixture.store.trashDirectory,
      ]
    for directory in directories {
      #expect(try FileStatus.of(directory.string, followingLinks: false)?.mode == 0o700, "\(directory)")
    }
  }

  @Test("what earlier versions left open to VMMs' users is closed")
  func restricts() throws {
    let fixture = try Fixture()
    let generation = try fixture.save(PlainMemory(pages: 4), dirty: [])
    chmod(generation.diskPath.string, 0o444)
    let directories = [generation.directory, fixture.store.generationsDirectory, fixture.store.directory]
    for path in directories { chmod(path.string, 0o711) }
    try fixture.store.prepare()
    #expect(try FileStatus.of(generation.diskPath.string, followingLinks: false)?.mode == 0o400)
    for path in directories { #expect(try FileStatus.of(path.string, followingLinks: false)?.mode == 0o700) }
    #expect(try fixture.read(generation) == PlainMemory(pages: 4))
  }

  @Test("sizes are allocated blocks, and a chain counts each generation once")
  func sizes() throws {
    let fixture = try Fixture()
    var random = Seeded(11)
    var memory = PlainMemory(pages: 64)
    for page in 0..<64 { memory[page] = random.page() }
    let first = try fixture.save(memory, dirty: [0..<64])
    memory[0] = random.page()
    let second = try fixture.save(memory, dirty: [0..<1], parent: first)
    let hole = first.path(of: .workingSet).string
    try Data().write(to: URL(fileURLWithPath: hole))
    let handle = try FileHandle(forUpdating: URL(fileURLWithPath: hole))
    try handle.truncate(atOffset: 1 << 30)
    try handle.close()
    let one = try fixture.store.allocatedBytes(of: first.id)
    let two = try fixture.store.allocatedBytes(of: second.id)
    #expect(one.own == one.chain)
    #expect(one.own >= 64 * 4_096 && one.own < 1 << 20)
    #expect(two.chain == two.own + one.own)
  }
}
