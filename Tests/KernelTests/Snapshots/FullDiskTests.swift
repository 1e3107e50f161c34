import Disks
import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

/// Needs root: mounts small file systems.
@Suite("Snapshots on a full disk", .serialized)
struct FullDiskTests {
  private static let pages = 64

  private func pages(_ value: UInt8) -> [UInt8] {
    [UInt8](repeating: value, count: Self.pages * StoreFixture.pageBytes)
  }

  @Test(
    "when saving fills the disk it fails as insufficient_storage, leaves nothing and succeeds later"
  )
  func saving() async throws {
    try await StoreFixture.within(megabytes: 8) { fixture in
      let good = try await fixture.save(pages(1), disk: try await fixture.disk(sizeBytes: 1 << 20))
      var refused = 0
      for kilobytes in stride(from: 0, through: 400, by: 12) {
        let disk = try await fixture.disk(over: good, sizeBytes: 1 << 20)
        try fixture.fill(leaving: kilobytes)
        do {
          let next = try await fixture.save(pages(2), over: good, disk: disk)
          #expect(try fixture.memory(of: next, pages: Self.pages) == pages(2))
        } catch let error as MartletError {
          #expect(error.code == .insufficientStorage, "\(error)")
          refused += 1
        }
        #expect(try Directories.names(in: fixture.store.draftsDirectory) == [])
        try fixture.store.verify(try fixture.store.generation(good.id))
        #expect(try fixture.memory(of: good, pages: Self.pages) == pages(1))
        try fixture.makeRoom()
        _ = try fixture.collect(roots: [good.id], drafts: [])
        try StoreFile.remove(disk.path)
      }
      #expect(refused > 10)
      let disk = try await fixture.disk(over: good, sizeBytes: 1 << 20)
      let next = try await fixture.save(pages(2), over: good, disk: disk)
      #expect(try fixture.memory(of: next, pages: Self.pages) == pages(2))
    }
  }

  @Test("when compacting fills the disk it fails as insufficient_storage, and the source stays unchanged")
  func compacting() async throws {
    try await StoreFixture.within(megabytes: 12) { fixture in
      let first = try await fixture.save(
        pages(1), disk: try await fixture.disk(sizeBytes: 1 << 20, ["write -P 1 0 300k"]))
      let second = try await fixture.save(
        pages(2), over: first,
        disk: try await fixture.disk(over: first, sizeBytes: 1 << 20, ["write -P 2 200k 300k"]))
      let content = try await fixture.content(ofDisk: second)
      var codes: [ErrorCode] = []
      for kilobytes in stride(from: 0, through: 1_600, by: 80) {
        try fixture.fill(leaving: kilobytes)
        do throws(MartletError) {
          _ = try fixture.store.compact(second.id, as: GenerationID(), keeping: [])
        } catch {
          codes.append(error.code)
        }
        #expect(try Directories.names(in: fixture.store.draftsDirectory) == [])
        try fixture.makeRoom()
        _ = try fixture.collect(roots: [second.id], drafts: [])
        try fixture.store.verify(try fixture.store.generation(second.id))
        #expect(try fixture.memory(of: second, pages: Self.pages) == pages(2))
      }
      #expect(codes.count > 3 && codes.allSatisfy { $0 == .insufficientStorage }, "\(codes)")
      let compacted = try fixture.store.compact(second.id, as: GenerationID(), keeping: [])
      #expect(try await fixture.content(ofDisk: compacted) == content)
    }
  }
}
