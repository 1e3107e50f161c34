import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Disks

/// Needs root: mounts small file systems.
@Suite("Overlays on real storage", .serialized)
struct StorageTests {
  @Test("on a full file system create fails as insufficient_storage and leaves no file")
  func full() async throws {
    try await withFileSystem(options: "size=16k") { directory in
      let base = FilePath(directory.removingLastComponent().string).appending("base-\(UUID().uuidString)")
      #expect(FileManager.default.createFile(atPath: base.string, contents: Data(count: 4_096)))
      defer { try? FileManager.default.removeItem(atPath: base.string) }
      #expect(
        FileManager.default.createFile(atPath: directory.appending("filler").string, contents: Data(count: 8_192)))
      let error = await #expect(throws: MartletError.self) {
        try await QcowOverlays().create(name: "disk", base: base, sizeBytes: 1 << 30, directory: directory, ownerUID: 0)
      }
      #expect(error?.code == .insufficientStorage)
      let names = try Directories.names(in: directory)
      #expect(names == ["filler"])
    }
  }

  @Test("the overlay belongs to the VMM's user, who alone can open it, until it is frozen")
  func owner() async throws {
    try await withFileSystem(options: "size=1m") { directory in
      let base = directory.appending("base")
      #expect(FileManager.default.createFile(atPath: base.string, contents: Data(count: 4_096)))
      let disk = try await QcowOverlays().create(
        name: "disk", base: base, sizeBytes: 1 << 30, directory: directory, ownerUID: 4_242)
      let attributes = try FileManager.default.attributesOfItem(atPath: disk.path.string)
      #expect(attributes[.ownerAccountID] as? Int == 4_242)
      #expect(attributes[.posixPermissions] as? Int == 0o600)
      let layer = try await QcowOverlays().freeze(disk, as: directory.appending("layer"))
      #expect(try FileManager.default.attributesOfItem(atPath: layer.path.string)[.ownerAccountID] as? Int == 0)
    }
  }

  private func withFileSystem(options: String, _ body: (FilePath) async throws -> Void) async throws {
    let directory = FilePath(FileManager.default.temporaryDirectory.path).appending(
      "martlet-storage-\(UUID().uuidString)")
    try Directories.create(directory)
    try await Tool.run("mount", ["-t", "tmpfs", "-o", options, "tmpfs", directory.string]).checked()
    let outcome: Result<Void, any Error>
    do {
      outcome = .success(try await body(directory))
    } catch {
      outcome = .failure(error)
    }
    try await Tool.run("umount", [directory.string]).checked()
    try Directories.removeTree(directory)
    try outcome.get()
  }
}
