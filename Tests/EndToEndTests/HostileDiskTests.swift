import Concurrency
import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import Testing

/// A captured VMM rewrites its disk's header, to have a program of the host read or write another file.
@Suite(.serialized) struct HostileDiskTests {
  enum Origin: CaseIterable { case booted, restored, forked }

  enum Attack: CaseIterable {
    case backingFile, dataFile, hugeL1, unknownFeature, namedExtension, sharedCluster

    /// What is written where.
    func patches(victim: String, file: OwnedDescriptor) -> [(offset: Int, bytes: [UInt8])] {
      let name = Array(victim.utf8)
      let padded = name + [UInt8](repeating: 0, count: (8 - name.count % 8) % 8)
      func named(_ type: UInt32) -> [UInt8] { big(type) + big(UInt32(name.count)) + padded + big(UInt64(0)) }
      switch self {
      case .backingFile: return [(8, big(UInt64(512)) + big(UInt32(name.count))), (512, name)]
      case .dataFile: return [(72, big(UInt64(0x14))), (104, named(0x4441_5441))]
      case .hugeL1: return [(36, big(UInt32(0x0100_0000)))]
      case .unknownFeature: return [(72, big(UInt64(1) << 40 | 0x10))]
      case .namedExtension: return [(104, named(0x4D41_5254))]
      case .sharedCluster:
        // Two entries of the first L2 table for one cluster.
        var l1 = [UInt8](repeating: 0, count: 8)
        _ = pread(file.rawValue, &l1, 8, 3 << 17)
        let table = l1.reduce(0) { $0 << 8 | Int($1) } & 0x00FF_FFFF_FFFF_FE00
        var entries = [UInt8](repeating: 0, count: 1 << 17)
        _ = pread(file.rawValue, &entries, entries.count, table)
        let used = stride(from: 0, to: entries.count, by: 16).filter { index in
          entries[index..<(index + 8)].contains { $0 != 0 }
        }
        guard let first = used.first, let second = used.dropFirst().first else { return [] }
        return [(table + second, Array(entries[first..<(first + 16)]))]
      }
    }

    private func big(_ value: some FixedWidthInteger) -> [UInt8] {
      withUnsafeBytes(of: value.bigEndian) { Array($0) }
    }
  }

  /// A sandbox with the disk that its VMM writes, and the VMM's user.
  private struct Target {
    let server: MartletServer
    let id: String
    let vmm: Int32
    let userID: UInt32

    /// The overlay that the VMM has open for writing, as the VMM has it.
    func disk() throws -> (path: String, file: OwnedDescriptor) {
      let path = try #require(HostileDiskTests.openFiles(of: vmm, writable: true).first { $0.contains("/disk-") })
      return (path, try OwnedDescriptor.open(path, O_RDWR))
    }

    /// Writes with nothing but the VMM's user and its descriptor, in place.
    func write(_ patches: [(offset: Int, bytes: [UInt8])], to file: OwnedDescriptor) throws {
      for patch in patches {
        let input = try OwnedDescriptor.pipe()
        _ = Glibc.write(input.write.rawValue, patch.bytes, patch.bytes.count)
        input.write.close()
        var request = SpawnRequest(
          executable: "/bin/dd",
          arguments: ["bs=1", "conv=notrunc", "status=none", "seek=\(patch.offset)", "oflag=nonblock"],
          descriptors: [0: input.read.rawValue, 1: file.rawValue, 2: 2])
        request.credentials = .init(uid: userID, gid: userID)
        request.forbidsNewPrivileges = true
        // The offset of the file description is shared.
        lseek(file.rawValue, 0, SEEK_SET)
        try #require(try ChildProcess.spawn(request).reapBlocking() == .exited(0))
      }
    }

    func read(_ patches: [(offset: Int, bytes: [UInt8])], from file: OwnedDescriptor) -> [(offset: Int, bytes: [UInt8])]
    {
      patches.map { patch in
        var bytes = [UInt8](repeating: 0, count: patch.bytes.count)
        _ = pread(file.rawValue, &bytes, bytes.count, patch.offset)
        return (patch.offset, bytes)
      }
    }

    /// What the VMM's user gets when it opens a file by name.
    func canOpen(_ path: String) async throws -> Bool {
      try await Tool.run(
        "setpriv", ["--reuid=\(userID)", "--regid=\(userID)", "--clear-groups", "head", "-c1", path]
      ).isSuccess
    }
  }

  /// A file of root's alone with content of its own.
  private final class Victim {
    static let content = Array("the host's own secret \(UUID().uuidString)\n".utf8)
    let path = "/var/tmp/martlet-victim-\(UUID().uuidString)"
    private let bytes: [UInt8]

    init() throws {
      bytes = (0..<4_096).flatMap { _ in Self.content }
      try SmallFile.replace(FilePath(path), with: bytes, mode: 0o600)
    }

    deinit { unlink(path) }

    func expectUntouched(_ server: MartletServer) async throws {
      #expect(try SmallFile.read(path) == bytes)
      let data = server.directory.appending("data").string
      let found = try await Tool.run("grep", ["-rlaF", String(decoding: Self.content.dropLast(), as: UTF8.self), data])
      #expect(found.outputText == "" && found.status == .exited(1), "\(found.outputText)\(found.errorText)")
    }
  }

  private static func openFiles(of pid: Int32, writable: Bool) -> [String] {
    ((try? Directories.names(in: FilePath("/proc/\(pid)/fd"))) ?? []).compactMap { number in
      guard let info = try? SmallFile.readText("/proc/\(pid)/fdinfo/\(number)"),
        let flags = info.split(separator: "\n").first(where: { $0.hasPrefix("flags:") }),
        let value = Int32(flags.dropFirst(6).trimmingCharacters(in: .whitespaces), radix: 8),
        (value & O_ACCMODE != O_RDONLY) == writable
      else { return nil }
      return try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\(number)")
    }
  }

  private func target(_ server: MartletServer, _ id: String, since before: [Int32]) throws -> Target {
    let vmm = try #require(server.machines.first { !before.contains($0) })
    let line = try SmallFile.readText("/proc/\(vmm)/status").split(separator: "\n").first { $0.hasPrefix("Uid:") }
    let userID = try #require(line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { UInt32($0) })
    try #require(userID != 0)
    return Target(server: server, id: id, vmm: vmm, userID: userID)
  }

  private func make(_ origin: Origin, _ server: MartletServer) async throws -> Target {
    var before = server.machines
    let id: String
    switch origin {
    case .booted, .restored:
      // The first one of a shape is booted.
      if origin == .restored {
        let first = try await server.createSandbox("--memory", "256")
        try await server.cli("kill", first).expectSuccess()
        before = server.machines
      }
      id = try await server.createSandbox("--memory", "256")
    case .forked:
      let parent = try await server.createSandbox("--memory", "256")
      before = server.machines
      let answer = try await server.request(.POST, "/v1/sandboxes/\(parent)/fork", body: #"{"count":1}"#)
      let list = try JSONSerialization.jsonObject(with: answer.body)
      let forks = (list as? [[String: Any]]) ?? ((list as? [String: Any])?["sandboxes"] as? [[String: Any]]) ?? []
      id = try #require(forks.first?["id"] as? String, "\(answer.status) \(answer.text)")
    }
    return try target(server, id, since: before)
  }

  /// No VMM can write to a published layer, its user can open none, and no layer names a file.
  private func expectLayersSafe(_ target: Target) async throws {
    let store = target.server.directory.appending("data/snapshots").string
    for vmm in target.server.machines {
      let writable = Self.openFiles(of: vmm, writable: true).filter { $0.hasPrefix(store) }
      #expect(writable == [], "VMM \(vmm)")
    }
    for id in target.server.stored("generations") {
      let layer = "\(store)/generations/\(id)/disk.layer"
      #expect(try await !target.canOpen(layer))
      let status = try #require(try FileStatus.of(layer, followingLinks: false))
      #expect(status.ownerUID == 0 && status.mode == 0o400)
      let info = try await Tool.run("qemu-img", ["info", layer]).outputText
      #expect(!info.contains("backing file") && !info.contains("data file"), "\(info)")
    }
  }

  @Test(
    "a rewritten header makes pause and snapshot fail with a reason, reaches no other file, and hurts no other sandbox",
    arguments: Origin.allCases)
  func rewritten(origin: Origin) async throws {
    let server = try await MartletServer.start()
    let victim = try Victim()
    let target = try await make(origin, server)
    let bystander = try await server.createSandbox("--memory", "256")
    _ = try await server.shell(bystander, "echo unharmed > /root/note; sync")
    _ = try await server.shell(target.id, "echo mine > /root/note; head -c 1M /dev/urandom > /root/load; sync")
    for attack in Attack.allCases {
      let (path, file) = try target.disk()
      for name in [path, victim.path] { #expect(try await !target.canOpen(name)) }
      let patches = attack.patches(victim: victim.path, file: file)
      try #require(!patches.isEmpty)
      let original = target.read(patches, from: file)
      try target.write(patches, to: file)
      let paused = try await server.request(.POST, "/v1/sandboxes/\(target.id)/pause")
      #expect(paused.status >= 500 && paused.errorCode == "agent_error", "\(attack): \(paused.status) \(paused.text)")
      #expect(paused.errorMessage?.contains("metadata were changed") == true)
      // The guest goes on, also after a snapshot for which it has moved to another overlay.
      let body = #"{"sandbox_id":"\#(target.id)","name":"hostile"}"#
      let kept = try await server.request(.POST, "/v1/snapshots?overwrite=true", body: body)
      #expect(kept.status >= 500, "\(attack): \(kept.status) \(kept.text)")
      #expect(try await server.shell(target.id, "cat /root/note") == "mine\n")
      let merged = try await server.request(.POST, "/v1/sandboxes/\(target.id)/pause")
      #expect(merged.status >= 500, "\(attack): \(merged.status) \(merged.text)")
      try await victim.expectUntouched(server)
      try await expectLayersSafe(target)
      // As it was: the reason was the header, and nothing else.
      try target.write(original, to: file)
      let good = try await server.request(.POST, "/v1/snapshots?overwrite=true", body: body)
      #expect(good.status == 201, "\(attack): \(good.status) \(good.text)")
      try await expectLayersSafe(target)
    }
    try await server.pause(target.id)
    try await server.resume(target.id)
    let copy = try await server.createSandbox("--template", "hostile")
    for id in [target.id, copy] { #expect(try await server.shell(id, "cat /root/note") == "mine\n") }
    #expect(try await server.shell(bystander, "cat /root/note") == "unharmed\n")
    try await victim.expectUntouched(server)
    try await server.stop()
  }

  @Test("a header that changes all the time while snapshots are made never reaches a layer or another file")
  func racing() async throws {
    let server = try await MartletServer.start()
    let victim = try Victim()
    let target = try await make(.restored, server)
    _ = try await server.shell(target.id, "echo mine > /root/note; head -c 4M /dev/urandom > /root/load; sync")
    let written = Counter()
    var succeeded = 0
    for round in 0..<12 {
      let (_, file) = try target.disk()
      let attack: Attack = round % 2 == 0 ? .backingFile : .dataFile
      let patches = attack.patches(victim: victim.path, file: file)
      let original = target.read(patches, from: file)
      let attacker = Task {
        while !Task.isCancelled {
          try target.write(patches, to: file)
          try target.write(original, to: file)
          written.increment()
          try await Task.sleep(for: .milliseconds(Int64.random(in: 0...20)))
        }
      }
      let body = #"{"sandbox_id":"\#(target.id)","name":"racing"}"#
      let answer = try await server.request(.POST, "/v1/snapshots?overwrite=true", body: body)
      attacker.cancel()
      _ = await attacker.result
      try target.write(original, to: file)
      #expect([201, 500, 502, 503].contains(answer.status), "\(answer.status) \(answer.text)")
      if answer.status == 201 { succeeded += 1 }
      try await expectLayersSafe(target)
    }
    #expect(written.value > 12)
    try await server.pause(target.id)
    try await server.resume(target.id)
    #expect(try await server.shell(target.id, "cat /root/note") == "mine\n")
    try await victim.expectUntouched(server)
    try await server.stop()
  }

  @Test("chains that are compacted, of a sandbox that rests and of one that never does, are root's own all the way")
  func compacted() async throws {
    let server = try await MartletServer.start()
    let victim = try Victim()
    let target = try await make(.restored, server)
    for round in 1...10 {
      _ = try await server.shell(target.id, "echo \(round) >> /root/rounds; sync")
      try await server.pause(target.id)
      try await server.resume(target.id)
    }
    let before = server.machines
    for round in 11...36 {
      _ = try await server.shell(target.id, "echo \(round) >> /root/rounds; sync")
      let body = #"{"sandbox_id":"\#(target.id)","name":"grown"}"#
      let answer = try await server.request(.POST, "/v1/snapshots?overwrite=true", body: body)
      #expect(answer.status == 201, "\(answer.text)")
    }
    #expect(server.machines == before)
    let expected = (1...36).map { "\($0)\n" }.joined()
    #expect(try await server.shell(target.id, "echo 3 > /proc/sys/vm/drop_caches; cat /root/rounds") == expected)
    try await expectLayersSafe(target)
    let copy = try await server.createSandbox("--template", "grown")
    #expect(try await server.shell(copy, "cat /root/rounds") == expected)
    // One disk that is written, and nothing of those before: the layers in their place are open for reading only.
    let vmm = try #require(before.first)
    #expect(Set(Self.openFiles(of: vmm, writable: true).filter { $0.contains("/disk-") }).count == 1)
    #expect(Self.openFiles(of: vmm, writable: false).filter { $0.contains("(deleted)") && $0.contains("/disk-") } == [])
    try await victim.expectUntouched(server)
    try await server.stop()
  }
}

private final class Counter: Sendable {
  private let count = Mutex(0)

  func increment() { count.withLock { $0 += 1 } }
  var value: Int { count.withLock { $0 } }
}
