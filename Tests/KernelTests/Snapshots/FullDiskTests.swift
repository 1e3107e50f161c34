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
    [UInt8](repeating: value, count: Self.pages * Laboratory.pageBytes)
  }

  @Test(
    "Wherever the room ends while saving: insufficient_storage, the last good generation untouched, nothing left, and with room it works"
  )
  func saving() async throws {
    try await Laboratory.within(megabytes: 8) { laboratory in
      let good = try await laboratory.save(pages(1), disk: try await laboratory.disk(sizeBytes: 1 << 20))
      var refused = 0
      for kilobytes in stride(from: 0, through: 400, by: 12) {
        let disk = try await laboratory.disk(over: good, sizeBytes: 1 << 20)
        try laboratory.fill(leaving: kilobytes)
        do {
          let next = try await laboratory.save(pages(2), over: good, disk: disk)
          #expect(try laboratory.memory(of: next, pages: Self.pages) == pages(2))
        } catch let error as MartletError {
          #expect(error.code == .insufficientStorage, "\(error)")
          refused += 1
        }
        #expect(try Directories.names(in: laboratory.store.draftsDirectory) == [])
        try laboratory.store.verify(try laboratory.store.generation(good.id))
        #expect(try laboratory.memory(of: good, pages: Self.pages) == pages(1))
        try laboratory.makeRoom()
        _ = try laboratory.collect(roots: [good.id], drafts: [])
        try StoreFile.remove(disk.path)
      }
      #expect(refused > 10)
      let disk = try await laboratory.disk(over: good, sizeBytes: 1 << 20)
      let next = try await laboratory.save(pages(2), over: good, disk: disk)
      #expect(try laboratory.memory(of: next, pages: Self.pages) == pages(2))
    }
  }

  @Test("Wherever the room ends while compacting: insufficient_storage, and the source stays as it was")
  func compacting() async throws {
    try await Laboratory.within(megabytes: 12) { laboratory in
      let first = try await laboratory.save(
        pages(1), disk: try await laboratory.disk(sizeBytes: 1 << 20, ["write -P 1 0 300k"]))
      let second = try await laboratory.save(
        pages(2), over: first,
        disk: try await laboratory.disk(over: first, sizeBytes: 1 << 20, ["write -P 2 200k 300k"]))
      let content = try await laboratory.content(ofDisk: second)
      var codes: [ErrorCode] = []
      for kilobytes in stride(from: 0, through: 1_600, by: 80) {
        try laboratory.fill(leaving: kilobytes)
        do throws(MartletError) {
          _ = try laboratory.store.compact(second.id, as: GenerationID(), keeping: [])
        } catch {
          codes.append(error.code)
        }
        #expect(try Directories.names(in: laboratory.store.draftsDirectory) == [])
        try laboratory.makeRoom()
        _ = try laboratory.collect(roots: [second.id], drafts: [])
        try laboratory.store.verify(try laboratory.store.generation(second.id))
        #expect(try laboratory.memory(of: second, pages: Self.pages) == pages(2))
      }
      #expect(codes.count > 3 && codes.allSatisfy { $0 == .insufficientStorage }, "\(codes)")
      let compacted = try laboratory.store.compact(second.id, as: GenerationID(), keeping: [])
      #expect(try await laboratory.content(ofDisk: compacted) == content)
    }
  }
}
