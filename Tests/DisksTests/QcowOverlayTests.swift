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
    #expect(try await QemuTools.check(disk.path).contains("No errors were found"))
    let info = try await QemuTools.info(disk.path)
    #expect(info.contains("\"virtual-size\": \(sizeMiB * Self.mebibyte)"))
    #expect(info.contains("\"extended-l2\": true") && info.contains("\"cluster-size\": 131072"))
    #expect(!info.contains("backing-filename") && !info.contains("data-file"))
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
    #expect(try await QemuTools.check(disk.path).contains("No errors were found"))
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

  @Test("a capture of several disks holds what all of them hold, and they stay as they were", arguments: [1, 2, 3])
  func capture(count: Int) async throws {
    let scratch = try Scratch()
    let base = DiskBase(path: try scratch.image(sizeBytes: Self.mebibyte), format: .raw, digest: "00")
    let writes = [
      ["write -P 0x11 0 64k", "write -P 0x11 512k 4k"],
      ["write -P 0x22 32k 64k", "write -z 512k 4k", "write -P 0x22 1500k 4k"],
      ["write -P 0x33 40k 4k", "write -z 1500k 512", "write -P 0x33 3M 4k"],
    ]
    var disks: [Disk] = []
    for (index, commands) in writes.enumerated() {
      let disk = try await QcowOverlays().create(
        name: "layer\(index)", base: base, sizeBytes: 4 * Self.mebibyte, directory: scratch.path)
      let below = disks.reversed().map { ($0.path, DiskFormat.qcow2) } + [(base.path, .raw)]
      try await QemuTools.io(disk, over: below.map { (path: $0.0, format: $0.1) }, commands)
      disks.append(disk)
    }
    let before = try disks.map { try Data(contentsOf: URL(fileURLWithPath: $0.path.string)) }
    let layer = scratch.path.appending("captured")
    try await QcowOverlays().capture(Array(disks.suffix(count).reversed()), as: layer)
    let captured = Disk(path: layer, format: .qcow2, sizeBytes: disks[2].sizeBytes, base: base)
    let below = disks.dropLast(count).reversed().map { ($0.path, DiskFormat.qcow2) } + [(base.path, .raw)]
    try await QemuTools.io(
      captured, over: below.map { (path: $0.0, format: $0.1) },
      [
        "read -P 0x11 0 32k", "read -P 0x22 32k 8k", "read -P 0x33 40k 4k", "read -P 0x22 44k 52k", "read -P 0 512k 4k",
        "read -P 0 1500k 512", "read -P 0x22 1536512 3584", "read -P 0x33 3M 4k",
      ])
    #expect(try await QemuTools.check(layer).contains("No errors were found"))
    #expect(try await !QemuTools.info(layer).contains("backing-filename"))
    let status = try #require(try FileStatus.of(layer.string, followingLinks: false))
    #expect(status.mode == 0o400 && status.ownerUID == geteuid())
    #expect(try disks.map { try Data(contentsOf: URL(fileURLWithPath: $0.path.string)) } == before)
  }

  @Test("a capture is a file of its own: what is written into the disk later does not reach it")
  func captureIsApart() async throws {
    let scratch = try Scratch()
    let base = try scratch.image(sizeBytes: Self.mebibyte)
    let disk = try await scratch.create(over: base, sizeBytes: 8 * Self.mebibyte)
    try await QemuTools.io(disk, ["write -P 9 4M 4k"])
    let layer = scratch.path.appending("layer")
    try await QcowOverlays().capture([disk], as: layer)
    let content = try Data(contentsOf: URL(fileURLWithPath: layer.string))
    try await QemuTools.io(disk, ["write -P 5 4M 4k"])
    #expect(try Data(contentsOf: URL(fileURLWithPath: layer.string)) == content)
    let child = try await QcowOverlays().create(
      name: "child", base: DiskBase(path: layer, format: .qcow2, digest: "base"), sizeBytes: 16 * Self.mebibyte,
      directory: scratch.path)
    try await QemuTools.io(
      child, over: [(path: layer, format: .qcow2), (path: base, format: .raw)],
      ["read -P 9 4M 4k", "read -P 2 4k 4k", "read -P 0 8M 8M", "write -P 5 4M 4k", "read -P 5 4M 4k"])
    await #expect(throws: MartletError.self) { try await QcowOverlays().capture([disk], as: layer) }
    #expect(try Data(contentsOf: URL(fileURLWithPath: layer.string)) == content)
    let error = await #expect(throws: MartletError.self) {
      try await QcowOverlays().create(
        name: "small", base: DiskBase(path: layer, format: .qcow2, digest: "base"), sizeBytes: Self.mebibyte,
        directory: scratch.path)
    }
    #expect(error?.code == .invalidRequest)
  }

  @Test("a disk that an earlier version made, whose header names its base, is captured without the name")
  func formerDisk() async throws {
    let scratch = try Scratch()
    let base = try scratch.image(sizeBytes: Self.mebibyte)
    let path = scratch.path.appending("former.qcow2")
    try await Tool.run(
      "qemu-img",
      [
        "create", "-q", "-f", "qcow2", "-o", "cluster_size=128k,extended_l2=on,lazy_refcounts=off", "-F", "raw", "-b",
        base.string, path.string, "4M",
      ]
    ).checked()
    var disk = Disk(
      path: path, format: .qcow2, sizeBytes: 4 * Self.mebibyte, base: DiskBase(path: base, format: .raw, digest: "00"))
    try await QemuTools.io(disk, ["write -P 7 64k 4k"])
    let layer = scratch.path.appending("layer")
    let refused = await #expect(throws: MartletError.self) { try await QcowOverlays().capture([disk], as: layer) }
    #expect(refused?.code == .agentError)
    disk.isSelfContained = nil
    try await QcowOverlays().capture([disk], as: layer)
    #expect(try await !QemuTools.info(layer).contains("backing-filename"))
    let captured = Disk(path: layer, format: .qcow2, sizeBytes: disk.sizeBytes, base: disk.base)
    try await QemuTools.io(captured, ["read -P 7 64k 4k", "read -P 1 0 4k"])
  }

  @Test("what a VMM gets are open files; links, other kinds of files and files that are no layers are refused")
  func opening() async throws {
    let scratch = try Scratch()
    let base = try scratch.image(sizeBytes: Self.mebibyte)
    let disk = try await scratch.create(over: base, sizeBytes: 8 * Self.mebibyte)
    let layer = scratch.path.appending("layer")
    try await QcowOverlays().capture([disk], as: layer)
    let image = DiskLayer(name: "image", path: base, format: .raw)
    let open = try await QcowOverlays().open(disk, over: [DiskLayer(name: "a", path: layer, format: .qcow2), image])
    #expect(open.layers.map(\.name) == ["a", "image"] && open.layers.allSatisfy { $0.writable == nil })
    #expect(fcntl(open.disk.readable.rawValue, F_GETFL) & O_ACCMODE == O_RDONLY)
    #expect(fcntl(open.disk.writable?.rawValue ?? -1, F_GETFL) & O_ACCMODE == O_RDWR)
    let (link, fifo) = (scratch.path.appending("link"), scratch.path.appending("fifo"))
    #expect(symlink(layer.string, link.string) == 0 && mkfifo(fifo.string, 0o600) == 0)
    for bad in [link, fifo, base, scratch.path, scratch.path.appending("none")] {
      let error = await #expect(throws: MartletError.self, "\(bad)") {
        try await QcowOverlays().open(disk, over: [DiskLayer(name: "a", path: bad, format: .qcow2), image])
      }
      #expect(error?.code == .snapshotDamaged && error?.message.contains("/") == false, "\(error as Any)")
    }
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
    for base in [scratch.path.appending("none"), scratch.path, FilePath("/" + String(repeating: "x/", count: 3_000))] {
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

  @Test("a disk is unchanged after journal encoding")
  func coding() async throws {
    let scratch = try Scratch()
    let disk = try await scratch.create(over: scratch.image(sizeBytes: 4_096), sizeBytes: Self.mebibyte)
    #expect(try JSONDecoder().decode(Disk.self, from: JSONEncoder().encode(disk)) == disk)
  }
}
