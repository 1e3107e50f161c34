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
        try await QcowOverlays().create(
          name: "disk", base: DiskBase(path: base, format: .raw, digest: "base"), sizeBytes: 1 << 30,
          directory: directory)
      }
      #expect(error?.code == .insufficientStorage)
      let names = try Directories.names(in: directory)
      #expect(names == ["filler"])
    }
  }

  @Test("overlay and layer belong to root; the VMM's user can open neither, and writes through what it was passed")
  func owner() async throws {
    try await withFileSystem(options: "size=4m,mode=755") { directory in
      let base = directory.appending("base")
      #expect(FileManager.default.createFile(atPath: base.string, contents: Data(count: 4_096)))
      let disk = try await QcowOverlays().create(
        name: "disk", base: DiskBase(path: base, format: .raw, digest: "base"), sizeBytes: 1 << 30,
        directory: directory)
      let layer = directory.appending("layer")
      try await QcowOverlays().capture([disk], as: layer)
      for (path, mode) in [(disk.path, 0o600), (layer, 0o400)] {
        let attributes = try FileManager.default.attributesOfItem(atPath: path.string)
        #expect(attributes[.ownerAccountID] as? Int == 0 && attributes[.posixPermissions] as? Int == mode)
        let output = try await Tool.run("setpriv", ["--reuid=4242", "--clear-groups", "cat", path.string])
        #expect(!output.isSuccess && output.errorText.contains("Permission denied"))
      }
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
