import Disks
import Foundation
import Glibc
import Hypervisor
import LinuxSystem
import Model
import SystemPackage
import Testing

/// Needs root, QEMU and the images of `make images`.
@Suite("Stopping, saving state and switching disks", .serialized, .timeLimit(.minutes(5)))
struct StateTests {
  @Test("a state that cannot be written is an error with the reason, and the guest continues")
  func unwritable() async throws {
    try await VMFixture.with { fixture in
      let sandbox = try await fixture.boot()
      let machine = try sandbox.machine
      try await machine.stop()
      try await machine.stop()
      await #expect(throws: (any Error).self) {
        try await machine.saveState(to: fixture.directory.appending("missing/state"))
      }
      let small = fixture.directory.appending("small")
      try Directories.create(small)
      try await Tool.run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", small.string]).checked()
      let failure = await #expect(throws: (any Error).self) {
        try await machine.saveState(to: small.appending("state"))
      }
      #expect("\(failure as Any)".contains("No space left on device"))
      #expect(try Directories.names(in: small) == [])
      try await Tool.run("umount", [small.string]).checked()
      try await machine.resume()
      try await machine.resume()
      #expect(try await machine.status() == .running)
      #expect(try await sandbox.shell("echo alive") == "alive")
      await #expect(throws: (any Error).self) {
        try await machine.saveState(to: fixture.directory.appending("state"))
      }
      #expect(try await machine.status() == .running)
      // The next attempt succeeds.
      try await machine.stop()
      try await machine.saveState(to: fixture.directory.appending("state"))
      try await machine.resume()
      #expect(try await sandbox.shell("echo alive") == "alive")
    }
  }

  @Test("a guest under load switches disks repeatedly, and lower layers are never written again")
  func switches() async throws {
    try await VMFixture.with { fixture in
      let sandbox = try await fixture.boot()
      let checksum = try await sandbox.shell("head -c 8388608 /dev/urandom > /root/b; sync; md5sum < /root/b")
      try await sandbox.startDetached(
        "while :; do dd if=/dev/urandom of=/root/load bs=64k count=64 2>/dev/null; sync; done")
      var layers: [(path: FilePath, content: String)] = []
      for generation in 1...4 {
        try await sandbox.shell("echo \(generation) >> /root/log")
        let (machine, old) = (try sandbox.machine, try sandbox.disk)
        try await machine.stop()
        try await machine.saveState(to: fixture.directory.appending("state-\(generation)"))
        let layer = fixture.directory.appending("layer-\(generation)")
        try await sandbox.switchDisk(from: old, over: layer)
        layers.append((layer, try await Self.digest(layer)))
        try await machine.resume()
        #expect(try await sandbox.shell("md5sum < /root/b") == checksum)
      }
      try await sandbox.shell("sync; echo 3 > /proc/sys/vm/drop_caches")
      #expect(try await sandbox.shell("cat /root/log; md5sum < /root/b") == "1\n2\n3\n4\n\(checksum)")
      for layer in layers {
        #expect(try await Self.digest(layer.path) == layer.content)
        try await Tool.run("qemu-img", ["check", "-q", layer.path.string]).checked()
      }
    }
  }

  @Test("a failed disk switch is an error, and the guest keeps its disk")
  func failedSwitch() async throws {
    try await VMFixture.with { fixture in
      let sandbox = try await fixture.boot()
      let machine = try sandbox.machine
      let overlay = try await sandbox.makeDisk(try fixture.base)
      let good = DiskAttachment.file(try await fixture.disks.open(overlay, over: []).disk)
      let running = await #expect(throws: (any Error).self) { try await machine.switchDisk(to: good) }
      #expect("\(running as Any)".contains("the guest is not stopped"))
      try await machine.stop()
      // A file that is no disk, and one that cannot be written.
      let image = try OwnedDescriptor.open(try fixture.base.path.string, O_RDONLY)
      for bad in [
        DiskAttachment.File(name: "disk-x", format: .qcow2, readable: image, writable: good.writable),
        DiskAttachment.File(name: "disk-y", format: .qcow2, readable: image, writable: image),
      ] {
        if bad.name == "disk-x" { _ = ftruncate(good.writable?.rawValue ?? -1, 0) }
        let stopped = await #expect(throws: (any Error).self) { try await machine.switchDisk(to: bad) }
        #expect("\(stopped as Any)".contains("blockdev-add"))
      }
      let layer = fixture.directory.appending("layer")
      try await sandbox.switchDisk(from: try sandbox.disk, over: layer)
      try await machine.resume()
      #expect(try await sandbox.shell("echo on > /root/new; sync; cat /root/new") == "on")
    }
  }

  @Test("a VMM without the preloaded library does not start")
  func withoutShim() async throws {
    try await VMFixture.with { fixture in
      // Any other library.
      let driver = fixture.driver(shim: "/lib/x86_64-linux-gnu/libm.so.6")
      let sandbox = try await fixture.makeSandbox()
      try await sandbox.prepareDisk(try fixture.base, memoryMiB: 256)
      try await sandbox.launch(.boot, driver: driver)
      _ = try await sandbox.machine.waitForExit()
      let log = try SmallFile.readText(sandbox.directory.appending("vmm.log").string)
      #expect(log.contains("unable to map backing store for guest RAM"))
    }
  }

  private static func digest(_ path: FilePath) async throws -> String {
    try await Tool.run("sha256sum", [path.string]).checked().outputText
  }
}
