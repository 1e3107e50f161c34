import Foundation
import Testing

@testable import Images

@Suite("Kernel parts")
struct KernelPartsTests {
  /// A bzImage of one setup sector whose payload starts 16 bytes into the protected-mode code.
  private func image(magic: [UInt8], version: UInt16 = 0x020F, offset: UInt32 = 16, length: UInt32 = 24) -> [UInt8] {
    var file = [UInt8](repeating: 0, count: 2_048)
    file[0x1F1] = 1
    file.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
    func put(_ value: UInt32, _ place: Int, _ count: Int) {
      for index in 0..<count { file[place + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(index))) }
    }
    put(UInt32(version), 0x206, 2)
    put(offset, 0x248, 4)
    put(length, 0x24C, 4)
    file.replaceSubrange(1_040..<1_040 + magic.count, with: magic)
    put(4_711, 1_040 + 20, 4)
    return file
  }

  @Test("the payload of a bzImage is found with every compression", arguments: KernelImage.Compression.allCases)
  func payload(compression: KernelImage.Compression) throws {
    let image = try KernelImage(parsing: image(magic: compression.magic))
    #expect(image.compression == compression)
    #expect(image.payload == 1_040..<1_060)
    #expect(image.uncompressedBytes == 4_711)
  }

  @Test("a damaged bzImage is refused and never read beyond its end")
  func damaged() {
    let magic = KernelImage.Compression.xz.magic
    let files: [[UInt8]] = [
      [], [UInt8](repeating: 0, count: 4_096), image(magic: [1, 2, 3, 4]), image(magic: magic, version: 0x0207),
      image(magic: magic, offset: .max), image(magic: magic, length: .max), image(magic: magic, length: 4),
      Array(image(magic: magic).prefix(1_045)),
    ]
    for file in files { #expect(throws: ManifestError.self) { try KernelImage(parsing: file) } }
  }

  @Test("modules are loaded after their dependencies, each once, without built-in ones")
  func loadOrder() throws {
    let index = ModuleIndex(
      dependencyList:
        "k/virtio_net.ko: k/net_failover.ko k/virtio.ko\nk/net_failover.ko: k/failover.ko\nk/failover.ko:\n"
        + "k/virtio.ko: k/ring.ko\nk/ring.ko:\nk/virtio-rng.ko: k/virtio.ko\n",
      builtInList: "kernel/drivers/virtio/virtio_pci.ko\n")
    let order = try index.loadOrder(["virtio_net", "virtio-rng", "virtio_pci"])
    #expect(
      order == ["k/failover.ko", "k/net_failover.ko", "k/ring.ko", "k/virtio.ko", "k/virtio_net.ko", "k/virtio-rng.ko"])
    #expect(throws: ManifestError.self) { try index.loadOrder(["missing"]) }
    #expect(
      index.selection(directories: ["k/none"], names: ["virtio_rng", "missing"]) == [
        "k/ring.ko", "k/virtio.ko", "k/virtio-rng.ko",
      ])
  }

  @Test("a cycle of module dependencies does not loop")
  func cycle() throws {
    let index = ModuleIndex(dependencyList: "a.ko: b.ko\nb.ko: a.ko\n", builtInList: "")
    #expect(Set(try index.loadOrder(["a"])) == ["a.ko", "b.ko"])
  }

  @Test("a newc archive has the documented bytes")
  func cpio() throws {
    var archive = CPIOArchive()
    archive.addFile("abc", content: [1, 2, 3, 4, 5], permissions: 0o644)
    let bytes = archive.finish()
    #expect(bytes.count % 4 == 0)
    let header = String(decoding: bytes[0..<110], as: UTF8.self)
    #expect(
      header == "070701" + "00000001" + "000081a4" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005"
        + String(repeating: "0", count: 32) + "00000004" + "00000000")
    #expect(
      Array(bytes[110..<116]) == Array("abc\0".utf8) + [0, 0],
      "the name is padded so that header and name are a multiple of 4")
    #expect(Array(bytes[116..<124]) == [1, 2, 3, 4, 5, 0, 0, 0])
    #expect(String(decoding: bytes[124..<130], as: UTF8.self) == "070701")
    #expect(String(decoding: bytes, as: UTF8.self).contains("TRAILER!!!"))
  }

  @Test("the init script loads the modules in order and executes the agent")
  func script() throws {
    let script = Initramfs.script(modules: ["ring", "blk"], agentPath: "/usr/local/bin/envd")
    let ring = try #require(script.range(of: "insmod /lib/ring.ko"))
    let blk = try #require(script.range(of: "insmod /lib/blk.ko"))
    #expect(ring.upperBound < blk.lowerBound)
    #expect(script.hasSuffix("exec $B switch_root /root /usr/local/bin/envd\n"))
    #expect(script.hasPrefix("#!/bin/busybox sh\n"))
  }
}
