import Concurrency
import Foundation
import Glibc
import GuestClient
import HostAPI
import Hypervisor
import LinuxSystem
import Model
import Snapshots
import SystemPackage
import Testing

/// Needs root, QEMU and the images of `make images`.
@Suite("Saving and restoring microVMs", .serialized, .timeLimit(.minutes(10)))
struct RestoreTests {
  /// A counting process, a file, and data in a memory file system: all must exist after a restore.
  private static let workload =
    "echo 0 > /tmp/count; i=0; while :; do i=$((i+1)); echo $i > /tmp/count.new; "
    + "mv /tmp/count.new /tmp/count; sleep 0.05; done"

  private func prepare(_ sandbox: TestSandbox) async throws -> String {
    try await sandbox.startDetached(Self.workload)
    return try await sandbox.shell(
      "mkdir -p /tmp/m; mount -t tmpfs none /tmp/m; head -c 16777216 /dev/urandom > /tmp/m/a; "
        + "head -c 8388608 /dev/urandom > /root/b; sync; "
        + "cat /tmp/m/a /root/b | md5sum")
  }

  private func count(_ sandbox: TestSandbox) async throws -> Int {
    try #require(Int(try await sandbox.shell("cat /tmp/count")))
  }

  private func expectAlive(_ sandbox: TestSandbox, checksum: String, after: Int) async throws {
    #expect(try await sandbox.shell("cat /tmp/m/a /root/b | md5sum") == checksum)
    let first = try await count(sandbox)
    #expect(first >= after)
    try await eventually("the process goes on") { try await count(sandbox) > first }
  }

  @Test("a guest continues in another network with its memory, files and processes, for five generations")
  func generations() async throws {
    try await VMFixture.with { fixture in
      var sandbox = try await fixture.boot()
      let checksum = try await prepare(sandbox)
      var seen = try await count(sandbox)
      for generation in 1...5 {
        try await sandbox.shell("echo \(generation) >> /root/log; echo \(generation) >> /tmp/m/log")
        let saved = try await sandbox.save(continues: false)
        sandbox = try await fixture.makeSandbox()
        try await sandbox.restore(saved)
        try await expectAlive(sandbox, checksum: checksum, after: seen)
        seen = try await count(sandbox)
        let log = (1...generation).map(String.init).joined(separator: "\n")
        #expect(try await sandbox.shell("cat /root/log") == log)
        #expect(try await sandbox.shell("cat /tmp/m/log") == log)
        try await sandbox.shell(
          "head -c 1048576 /dev/urandom > /root/c; sync; echo 3 > /proc/sys/vm/drop_caches; cat /root/c | md5sum")
      }
    }
  }

  @Test("a guest saved under load continues, and each generation has the content of its moment")
  func continuing() async throws {
    try await VMFixture.with { fixture in
      let sandbox = try await fixture.boot()
      let checksum = try await prepare(sandbox)
      try await sandbox.startDetached(
        "while :; do dd if=/dev/urandom of=/root/load bs=64k count=64 2>/dev/null; sync; done")
      var saved: [SavedSandbox] = []
      for generation in 1...3 {
        try await sandbox.shell("echo \(generation) >> /root/log; echo \(generation) >> /tmp/m/log")
        saved.append(try await sandbox.save(continues: true))
        try await expectAlive(sandbox, checksum: checksum, after: 0)
      }
      #expect(try await sandbox.shell("cat /root/log") == "1\n2\n3")
      // The running guest reads the layers below, and so do the copies.
      for (index, generation) in saved.enumerated() {
        let copy = try await fixture.makeSandbox()
        try await copy.restore(generation)
        let log = (1...(index + 1)).map(String.init).joined(separator: "\n")
        #expect(try await copy.shell("cat /root/log") == log)
        #expect(try await copy.shell("cat /tmp/m/log") == log)
        try await expectAlive(copy, checksum: checksum, after: 0)
        await copy.kill()
      }
      try await expectAlive(sandbox, checksum: checksum, after: 0)
    }
  }

  @Test("a generation of an earlier version, whose disk layer names files, is restored without them")
  func formerLayer() async throws {
    try await VMFixture.with { fixture in
      let parent = try await fixture.boot()
      let checksum = try await prepare(parent)
      let first = try await parent.save(continues: true)
      try await parent.shell("echo second > /root/log; sync")
      let second = try await parent.save(continues: false)
      let victim = fixture.directory.appending("victim")
      try SmallFile.replace(victim, with: [UInt8](repeating: 0x5A, count: 1 << 20), mode: 0o600)
      for (generation, named) in [(first.generation, victim), (second.generation, fixture.directory.appending("gone"))]
      {
        chmod(generation.diskPath.string, 0o600)
        try await Tool.run(
          "qemu-img", ["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", named.string, generation.diskPath.string]
        ).checked()
        let info = try await Tool.run("qemu-img", ["info", generation.diskPath.string]).outputText
        #expect(info.contains(named.string))
      }
      let copy = try await fixture.makeSandbox()
      try await copy.restore(second)
      #expect(try await copy.shell("echo 3 > /proc/sys/vm/drop_caches; cat /root/log") == "second")
      try await expectAlive(copy, checksum: checksum, after: 0)
      // A checkpoint of it lies over the old layers, and names nothing.
      let third = try await copy.save(continues: false)
      let info = try await Tool.run("qemu-img", ["info", third.generation.diskPath.string]).outputText
      #expect(!info.contains("backing file"))
      let last = try await fixture.makeSandbox()
      try await last.restore(third)
      try await expectAlive(last, checksum: checksum, after: 0)
      #expect(try SmallFile.read(victim.string) == [UInt8](repeating: 0x5A, count: 1 << 20))
    }
  }

  @Test("two concurrent copies share nothing that either writes")
  func clones() async throws {
    try await VMFixture.with { fixture in
      let parent = try await fixture.boot()
      let checksum = try await prepare(parent)
      let saved = try await parent.save(continues: false)
      let (one, other) = (try await fixture.makeSandbox(), try await fixture.makeSandbox())
      async let first: Void = one.restore(saved, as: "sb-one")
      async let second: Void = other.restore(saved, as: "sb-other")
      _ = try await (first, second)
      for (sandbox, name) in [(one, "one"), (other, "other")] {
        try await sandbox.shell("echo \(name) > /root/name; echo \(name) > /tmp/m/name; sync")
        try await expectAlive(sandbox, checksum: checksum, after: 0)
      }
      #expect(try await one.shell("cat /root/name /tmp/m/name") == "one\none")
      #expect(try await other.shell("cat /root/name /tmp/m/name") == "other\nother")
      let machineIDs = try await (one.shell("cat /etc/machine-id"), other.shell("cat /etc/machine-id"))
      #expect(machineIDs.0 != machineIDs.1)
      let random = try await (
        one.shell("head -c 32 /dev/urandom | md5sum"), other.shell("head -c 32 /dev/urandom | md5sum")
      )
      #expect(random.0 != random.1)
    }
  }

  @Test("a restored guest has the present time, and another identity only when it is initialized as a copy")
  func identity() async throws {
    try await VMFixture.with { fixture in
      let parent = try await fixture.boot()
      let machineID = try await parent.shell("cat /etc/machine-id")
      let saved = try await parent.save(continues: false)
      try await Task.sleep(for: .seconds(3))
      let same = try await fixture.makeSandbox()
      try await same.restore(saved)
      let error = try await same.clockError()
      #expect(abs(error) < 0.5, "the clock is wrong by \(error) s")
      #expect(try await same.shell("cat /etc/machine-id") == machineID)
      await same.kill()
      let other = try await fixture.makeSandbox()
      try await other.load(saved)
      try await other.machine.resume()
      let client = other.client(token: "wrong")
      let identity = other.identity(token: "new", sandboxID: "sb-other")
      let refusal = await #expect(throws: MartletError.self) {
        try await client.initialize(identity, deadline: .now + .seconds(60))
      }
      #expect(refusal?.code == .agentError)
      try await other.client(token: saved.token).initialize(identity, deadline: .now + .seconds(60))
      other.state.withLock { $0.token = "new" }
      #expect(try await other.shell("cat /etc/machine-id") != machineID)
      #expect(try await other.shell("cat /etc/machine-id").utf8.count == 32)
    }
  }

  @Test("a process whose reader belonged to an earlier restore is not blocked by it")
  func stalledReader() async throws {
    try await VMFixture.with { fixture in
      let parent = try await fixture.boot()
      let script = "i=0; while :; do i=$((i+1)); echo $i > /tmp/progress; head -c 65536 /dev/zero; done"
      let session = try await parent.start(script)
      var last = ""
      try await eventually("the process waits for its reader") {
        try await Task.sleep(for: .seconds(1))
        let now = try await parent.shell("cat /tmp/progress")
        defer { last = now }
        return now == last
      }
      let saved = try await parent.save(continues: false)
      await session.detach(killing: false)
      let sandbox = try await fixture.makeSandbox()
      try await sandbox.restore(saved)
      try await eventually("the process goes on") { try await sandbox.shell("cat /tmp/progress") != last }
    }
  }

  @Test("a damaged state is an error with QEMU's message")
  func damaged() async throws {
    try await VMFixture.with { fixture in
      let sandbox = try await fixture.boot()
      let saved = try await sandbox.save(continues: false)
      let path = saved.generation.devicePath
      let bytes = try SmallFile.read(path.string)
      // Of the right size, because the pager would refuse another size before.
      let rubbish = [UInt8](repeating: 0xFF, count: bytes.count - bytes.count / 2)
      try SmallFile.replace(path, with: Array(bytes.prefix(bytes.count / 2)) + rubbish, mode: 0o400)
      let copy = try await fixture.makeSandbox()
      let failure = await #expect(throws: (any Error).self) { try await copy.load(saved) }
      #expect("\(failure as Any)".contains("load of migration failed"))
    }
  }
}
