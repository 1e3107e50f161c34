import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Disks

@Suite("qcow2 overlays")
struct QcowOverlayTests {
  private static let mebibyte: Int64 = 1_048_576

  @Test("QEMU finds no error in an overlay of any size", arguments: [1, 256, 5_120, 131_073, 1_048_576] as [Int64])
  func check(sizeMiB: Int64) async throws {
    let scratch = try Scratch()
    let base = try scratch.image(sizeBytes: Self.mebibyte)
    let disk = try await scratch.create(over: base, sizeBytes: sizeMiB * Self.mebibyte)
    #expect(try await QemuTools.check(disk).contains("No errors were found"))
    let info = try await QemuTools.info(disk)
    #expect(info.contains("\"virtual-size\": \(sizeMiB * Self.mebibyte)"))
    #expect(info.contains("\"extended-l2\": true") && info.contains("\"cluster-size\": 131072"))
    #expect(info.contains("\"backing-filename-format\": \"raw\""))
    #expect(info.contains("\"full-backing-filename\": \"\(base.string)\""))
  }

  @Test("the guest reads the base, zeros beyond it, and its own writes; the base is unchanged")
  func copyOnWrite() async throws {
    let scratch = try Scratch()
    let base = try scratch.image(sizeBytes: Self.mebibyte)
    let before = try Data(contentsOf: URL(fileURLWithPath: base.string))
    let disk = try await scratch.create(over: base, sizeBytes: 1_048_576 * Self.mebibyte)
    try await QemuTools.io(
      disk,
      [
        "read -P 1 0 4k", "read -P 4 12k 4k", "read -P 0 16k 64k", "read -P 0 1M 1M", "read -P 0 1048575M 1M",
        "write -P 0xab 4k 4k",
        "write -P 0xcd 1048575M 64k", "write -P 0xef 500G 4k", "flush",
      ])
    try await QemuTools.io(
      disk,
      [
        "read -P 1 0 4k", "read -P 0xab 4k 4k", "read -P 3 8k 4k", "read -P 0xcd 1048575M 64k", "read -P 0xef 500G 4k",
        "read -P 0 400G 1M",
      ])
    #expect(try await QemuTools.check(disk).contains("No errors were found"))
    #expect(try Data(contentsOf: URL(fileURLWithPath: base.string)) == before)
  }

  @Test("a new overlay takes at most 64 KiB, and scattered 4 KiB writes take little more than 4 KiB")
  func allocation() async throws {
    let scratch = try Scratch()
    let disk = try await scratch.create(over: scratch.image(sizeBytes: Self.mebibyte), sizeBytes: 1_024 * Self.mebibyte)
    #expect(try QcowOverlays().allocatedBytes(of: disk) <= 65_536)
    try await QemuTools.io(disk, (0..<256).map { "write \($0 * 4_000)k 4k" } + ["flush"])
    let allocated = try QcowOverlays().allocatedBytes(of: disk)
    #expect((Self.mebibyte...(2 * Self.mebibyte)).contains(allocated), "\(allocated)")
  }

  @Test(
    "a merged layer has the content of all layers above the base, and the layers are unchanged",
    arguments: [false, true])
  func merge(keepsLowest: Bool) async throws {
    let scratch = try Scratch()
    let base = DiskBase(path: try scratch.image(sizeBytes: Self.mebibyte), format: .raw, digest: "00")
    let writes = [
      ["write -P 0x11 0 64k", "write -P 0x11 512k 4k"],
      ["write -P 0x22 32k 64k", "write -z 512k 4k", "write -P 0x22 1500k 4k"],
      ["write -P 0x33 40k 4k", "write -z 1500k 512", "write -P 0x33 3M 4k"],
    ]
    var disks: [Disk] = []
    for (index, commands) in writes.enumerated() {
      let below = disks.last.map { DiskBase(path: $0.path, format: .qcow2, digest: "00") } ?? base
      let disk = try await QcowOverlays().create(
        name: "layer\(index)", base: below, sizeBytes: Int64(index + 2) * Self.mebibyte, directory: scratch.path,
        ownerUID: geteuid())
      try await QemuTools.io(disk, commands)
      disks.append(disk)
    }
    let before = try disks.map { try Data(contentsOf: URL(fileURLWithPath: $0.path.string)) }
    let bottom = keepsLowest ? DiskBase(path: disks[0].path, format: .qcow2, digest: "00") : base
    let merged = Disk(
      path: scratch.path.appending("merged"), format: .qcow2, sizeBytes: disks[2].sizeBytes, base: bottom)
    try await QcowOverlays().merge(disks[2], onto: bottom, to: merged.path)
    try await QemuTools.io(
      merged,
      [
        "read -P 0x11 0 32k", "read -P 0x22 32k 8k", "read -P 0x33 40k 4k", "read -P 0x22 44k 52k", "read -P 0 512k 4k",
        "read -P 0 1500k 512", "read -P 0x22 1536512 3584", "read -P 0x33 3M 4k",
      ])
    #expect(try await QemuTools.check(merged).contains("No errors were found"))
    #expect(try await QemuTools.info(merged).contains("\"full-backing-filename\": \"\(bottom.path.string)\""))
    #expect(try disks.map { try Data(contentsOf: URL(fileURLWithPath: $0.path.string)) } == before)
  }

  @Test("a disk smaller than its base is refused with the required size")
  func tooSmall() async throws {
    let scratch = try Scratch()
    let base = try scratch.image(sizeBytes: 300 * Self.mebibyte + 512)
    let error = await #expect(throws: MartletError.self) {
      try await scratch.create(over: base, sizeBytes: 256 * Self.mebibyte)
    }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message.contains("at least 301") == true)
    #expect(try scratch.names == ["base.ext4"])
  }

  @Test("invalid disk sizes are refused", arguments: [0, -512, 1_048_577, Int64.max])
  func badSizes(sizeBytes: Int64) async throws {
    let scratch = try Scratch()
    let base = try scratch.image(sizeBytes: 0, blocks: 0)
    let error = await #expect(throws: MartletError.self) { try await scratch.create(over: base, sizeBytes: sizeBytes) }
    #expect(error?.code == .invalidRequest)
  }

  @Test("a missing base, a directory and a too long path are internal errors without the path")
  func badBase() async throws {
    let scratch = try Scratch()
    for base in [scratch.path.appending("none"), scratch.path, FilePath("/" + String(repeating: "x/", count: 600))] {
      let error = await #expect(throws: MartletError.self) {
        try await scratch.create(over: base, sizeBytes: Self.mebibyte)
      }
      #expect(error?.code == .internalError)
      #expect(error?.message.contains("/") == false)
    }
    #expect(try scratch.names.isEmpty)
  }

  @Test("a second create does not change the first disk; remove is idempotent")
  func exclusive() async throws {
    let scratch = try Scratch()
    let (base, id) = (try scratch.image(sizeBytes: Self.mebibyte), SandboxID())
    let disk = try await scratch.create(over: base, sizeBytes: Self.mebibyte, id: id)
    try await QemuTools.io(disk, ["write -P 7 0 4k"])
    await #expect(throws: MartletError.self) { try await scratch.create(over: base, sizeBytes: Self.mebibyte, id: id) }
    try await QemuTools.io(disk, ["read -P 7 0 4k"])
    try await QcowOverlays().remove(disk)
    try await QcowOverlays().remove(disk)
    #expect(try scratch.names == ["base.ext4"])
  }

  @Test("a frozen disk is an immutable base for other disks")
  func freeze() async throws {
    let scratch = try Scratch()
    let disk = try await scratch.create(over: scratch.image(sizeBytes: Self.mebibyte), sizeBytes: 8 * Self.mebibyte)
    try await QemuTools.io(disk, ["write -P 9 4M 4k"])
    let layer = try await QcowOverlays().freeze(disk, as: scratch.path.appending("layer"))
    #expect(try FileManager.default.attributesOfItem(atPath: layer.path.string)[.posixPermissions] as? Int == 0o444)
    #expect(try await QcowOverlays().freeze(disk, as: layer.path) == layer)
    let child = try await QcowOverlays().create(
      name: "disk", base: layer, sizeBytes: 16 * Self.mebibyte, directory: scratch.path, ownerUID: geteuid())
    try await QemuTools.io(
      child, ["read -P 9 4M 4k", "read -P 2 4k 4k", "read -P 0 8M 8M", "write -P 5 4M 4k", "read -P 5 4M 4k"])
    #expect(child.baseDigest == "base")
    let error = await #expect(throws: MartletError.self) {
      try await QcowOverlays().create(
        name: "disk", base: layer, sizeBytes: Self.mebibyte, directory: scratch.path, ownerUID: 0)
    }
    #expect(error?.code == .invalidRequest)
  }

  @Test("freezing never replaces an existing file, and completes an interrupted freeze")
  func freezeConflicts() async throws {
    let scratch = try Scratch()
    let disk = try await scratch.create(over: scratch.image(sizeBytes: Self.mebibyte), sizeBytes: Self.mebibyte)
    let other = try scratch.image("other", sizeBytes: 512, blocks: 0)
    await #expect(throws: MartletError.self) { try await QcowOverlays().freeze(disk, as: other) }
    #expect(try scratch.names.contains(disk.path.lastComponent?.string ?? ""))
    let layer = scratch.path.appending("layer")
    #expect(link(disk.path.string, layer.string) == 0)
    _ = try await QcowOverlays().freeze(disk, as: layer)
    #expect(try scratch.names == ["base.ext4", "layer", "other"])
  }

  @Test("a flattened disk is a sparse raw image of the same content")
  func flatten() async throws {
    let scratch = try Scratch()
    let disk = try await scratch.create(over: scratch.image(sizeBytes: Self.mebibyte), sizeBytes: 64 * Self.mebibyte)
    try await QemuTools.io(disk, ["write -P 9 32M 4k"])
    let image = scratch.path.appending("flat")
    let allocated = try await QcowOverlays().flatten(disk, to: image)
    #expect(allocated <= 256 * 1_024)
    let raw = Disk(path: image, format: .raw, sizeBytes: disk.sizeBytes, base: disk.base)
    try await QemuTools.io(raw, ["read -P 9 32M 4k", "read -P 2 4k 4k", "read -P 0 1M 1M"])
    #expect(try scratch.names.contains { $0.hasSuffix(".partial") } == false)
  }

  @Test("a failed flatten leaves nothing")
  func flattenFails() async throws {
    let scratch = try Scratch()
    let missing = scratch.path.appending("none")
    let disk = Disk(
      path: missing, format: .qcow2, sizeBytes: 512, base: DiskBase(path: missing, format: .raw, digest: "x"))
    await #expect(throws: MartletError.self) {
      try await QcowOverlays().flatten(disk, to: scratch.path.appending("flat"))
    }
    #expect(try scratch.names.isEmpty)
    #expect(throws: MartletError.self) { try QcowOverlays().allocatedBytes(of: disk) }
  }

  @Test("a disk is unchanged after journal encoding")
  func coding() async throws {
    let scratch = try Scratch()
    let disk = try await scratch.create(over: scratch.image(sizeBytes: 4_096), sizeBytes: Self.mebibyte)
    #expect(try JSONDecoder().decode(Disk.self, from: JSONEncoder().encode(disk)) == disk)
  }
}
