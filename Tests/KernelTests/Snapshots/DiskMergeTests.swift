import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

/// Needs root: mounts small file systems. The qcow2 layers are written by QEMU's own code.
@Suite("Merging disk layers", .serialized)
struct DiskMergeTests {
  private static let memory = [UInt8](repeating: 9, count: 8 * StoreFixture.pageBytes)

  /// Four generations with growing disks, which contain data and zeros, also over data of lower layers.
  private func chain(_ fixture: StoreFixture) async throws -> [Generation] {
    let layers: [(Int64, [String])] = [
      (2 << 20, ["write -P 0x11 0 64k", "write -P 0x11 1M 4k", "write -P 0x11 1536k 128k"]),
      (2 << 20, ["write -P 0x22 32k 64k", "write -z 1M 4k", "write -P 0x22 1900k 12k"]),
      (4 << 20, ["write -P 0x33 36k 4k", "write -P 0x33 3M 4k", "write -z 1536k 64k"]),
      (4 << 20, ["write -P 0x44 3M 512", "write -P 0x44 4092k 4k", "write -z 0 4k"]),
    ]
    var chain: [Generation] = []
    for (size, commands) in layers {
      let disk = try await fixture.disk(over: chain.last, sizeBytes: size, commands)
      chain.append(try await fixture.save(Self.memory, over: chain.last, disk: disk))
    }
    return chain
  }

  @Test("a merged disk has the content of its chain for every choice of kept layers", arguments: 0..<8)
  func merged(choice: Int) async throws {
    try await StoreFixture.within(megabytes: 64) { fixture in
      let chain = try await chain(fixture)
      let kept = Set((0..<3).filter { choice >> $0 & 1 == 1 }.map { chain[$0].id })
      let content = try await fixture.content(ofDisk: chain[3])
      let compacted = try fixture.store.compact(chain[3].id, as: GenerationID(), keeping: kept)
      #expect(try await fixture.content(ofDisk: compacted) == content)
      let nearest = (0..<3).last { kept.contains(chain[$0].id) }
      #expect(compacted.manifest.diskParents == (nearest.map { chain[0...$0].reversed().map(\.id) } ?? []))
      try await Tool.run("qemu-img", ["check", "-q", compacted.diskPath.string]).checked()
      let gone = try fixture.collect(roots: [compacted.id], drafts: [])
      #expect(gone.contains(chain[3].id))
      try fixture.store.verify(try fixture.store.generation(compacted.id))
      #expect(try await fixture.content(ofDisk: compacted) == content)
      #expect(try fixture.memory(of: compacted, pages: 8) == Self.memory)
    }
  }

  @Test("with nothing to merge the layer is the same file and counts once")
  func linked() async throws {
    try await StoreFixture.within(megabytes: 64) { fixture in
      let chain = try await chain(fixture)
      let compacted = try fixture.store.compact(chain[3].id, as: GenerationID(), keeping: [chain[2].id])
      let (one, two) = (compacted.diskPath.string, chain[3].diskPath.string)
      #expect(
        try FileStatus.of(one, followingLinks: false)?.identity.inode
          == FileStatus.of(two, followingLinks: false)?.identity.inode)
      #expect(compacted.manifest.diskParents == chain[3].manifest.diskParents)
    }
  }

  @Test("a damaged disk layer is not merged")
  func damaged() async throws {
    try await StoreFixture.within(megabytes: 64) { fixture in
      let chain = try await chain(fixture)
      let handle = try FileHandle(forUpdating: URL(fileURLWithPath: chain[1].diskPath.string))
      try handle.seek(toOffset: 600_000)
      try handle.write(contentsOf: Data([1, 2, 3]))
      try handle.close()
      let error = #expect(throws: MartletError.self) {
        try fixture.store.compact(chain[3].id, as: GenerationID(), keeping: [])
      }
      #expect(error?.code == .snapshotDamaged)
      #expect(error?.message.contains("\(chain[1].id)") == true)
      #expect(try Directories.names(in: fixture.store.draftsDirectory) == [])
    }
  }

  @Test("layers of earlier versions, whose headers name files, are read in the order of the manifests")
  func formerLayers() async throws {
    try await StoreFixture.within(megabytes: 64) { fixture in
      let chain = try await chain(fixture)
      let content = try await fixture.content(ofDisk: chain[3])
      let victim = fixture.directory.appending("victim")
      try Data(repeating: 0x5A, count: 4 << 20).write(to: URL(fileURLWithPath: victim.string))
      var former: [Generation] = []
      for generation in chain {
        former.append(try await fixture.withFormerHeader(generation, naming: victim, parent: former.last))
      }
      let last = try fixture.store.generation(former[3].id)
      try fixture.store.verify(last)
      #expect(try await Tool.run("qemu-img", ["info", last.diskPath.string]).outputText.contains("victim"))
      #expect(try await fixture.content(ofDisk: last) == content)
      let merged = try fixture.store.compact(last.id, as: GenerationID(), keeping: [])
      #expect(try await fixture.content(ofDisk: merged) == content)
      #expect(try await !Tool.run("qemu-img", ["info", merged.diskPath.string]).outputText.contains("victim"))
      // Nothing to merge: the same file, name and all.
      let linked = try fixture.store.compact(last.id, as: GenerationID(), keeping: [former[2].id])
      #expect(try await fixture.content(ofDisk: linked) == content)
      #expect(try Data(contentsOf: URL(fileURLWithPath: victim.string)) == Data(repeating: 0x5A, count: 4 << 20))
    }
  }

  @Test("a merged disk can be merged again and used as a base")
  func again() async throws {
    try await StoreFixture.within(megabytes: 64) { fixture in
      let chain = try await chain(fixture)
      let compacted = try fixture.store.compact(chain[3].id, as: GenerationID(), keeping: [])
      let disk = try await fixture.disk(over: compacted, sizeBytes: 4 << 20, ["write -P 0x55 8k 4k"])
      let next = try await fixture.save(Self.memory, over: compacted, disk: disk)
      let content = try await fixture.content(ofDisk: next)
      let flat = try fixture.store.compact(next.id, as: GenerationID(), keeping: [])
      _ = try fixture.collect(roots: [flat.id], drafts: [])
      #expect(try fixture.store.generations().map(\.id) == [flat.id])
      #expect(try await fixture.content(ofDisk: flat) == content)
    }
  }
}
