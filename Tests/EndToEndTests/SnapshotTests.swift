import Foundation
import Glibc
import LinuxSystem
import NIOCore
import SystemPackage
import Testing

/// Pause, resume, clone: with real microVMs, real memory and real disks.
@Suite(.serialized) struct SnapshotTests {
  /// A guest whose state is everywhere: a counting process, files with checksums in memory and on disk, a Python process with a
  /// dictionary that is connected to itself.
  private static let workload = """
    set -e
    head -c 3000000 /dev/urandom > /dev/shm/memory; sha256sum /dev/shm/memory > /dev/shm/memory.sum
    head -c 3000000 /dev/urandom > /var/tmp/disk; sha256sum /var/tmp/disk > /var/tmp/disk.sum
    cat > /var/tmp/stateful.py <<'END'
    import hashlib, os, socket, threading
    listener = socket.create_server(("127.0.0.1", 7001))
    state = {i: os.urandom(64) for i in range(2000)}
    digest = hashlib.sha256(b"".join(state.values())).hexdigest()
    mine = socket.create_connection(("127.0.0.1", 7001))
    theirs, _ = listener.accept()
    count = 0
    def echo():
        while True: theirs.sendall(theirs.recv(100))
    threading.Thread(target=echo, daemon=True).start()
    doors = socket.create_server(("127.0.0.1", 7002))
    while True:
        caller, _ = doors.accept()
        count += 1
        mine.sendall(b"ping")
        ok = mine.recv(100) == b"ping" and hashlib.sha256(b"".join(state.values())).hexdigest() == digest
        caller.sendall(f"{ok} {count}\\n".encode()); caller.close()
    END
    """

  private static let check = """
    sha256sum -c /dev/shm/memory.sum >/dev/null && sha256sum -c /var/tmp/disk.sum >/dev/null \
    && python3 -c 'import socket; print(socket.create_connection(("127.0.0.1", 7002)).recv(100).decode().strip())' && cat /dev/shm/count
    """

  private func begin(_ server: MartletServer) async throws -> String {
    let id = try await server.createSandbox("--template", "base", "--memory", "256")
    _ = try await server.shell(id, Self.workload)
    try await server.cli("exec", "--detach", id, "--", "python3", "/var/tmp/stateful.py").expectSuccess()
    try await server.cli(
      "exec", "--detach", id, "--", "sh", "-c", "i=0; while true; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.5; done"
    ).expectSuccess()
    try await eventually("the workload runs") { (try? await check(server, id)) != nil }
    return id
  }

  /// - Returns: how often the guest's Python process was asked, and what its counter says.
  private func check(_ server: MartletServer, _ id: String) async throws -> (asked: Int, counter: Int) {
    let lines = try await server.shell(id, Self.check).split(separator: "\n")
    guard lines.count == 2, lines[0].hasPrefix("True "), let asked = Int(lines[0].dropFirst(5)), let counter = Int(lines[1]) else {
      throw TestFailure("the guest's state is not what it was: \(lines)")
    }
    return (asked, counter)
  }

  private func pause(_ server: MartletServer, _ id: String) async throws {
    let answer = try await server.request(.POST, "/v1/sandboxes/\(id)/pause")
    guard answer.status == 200 else { throw TestFailure("pause: \(answer.status) \(answer.text)") }
  }

  private func resume(_ server: MartletServer, _ id: String) async throws {
    let answer = try await server.request(.POST, "/v1/sandboxes/\(id)/resume")
    guard answer.status == 200 else { throw TestFailure("resume: \(answer.status) \(answer.text)") }
  }

  @Test("it lives through 20 pauses with kill -9 of the server in between, in either state (OPS-1)")
  func killedBetween() async throws {
    let server = try await MartletServer.start()
    let id = try await begin(server)
    var last = try await check(server, id)
    for cycle in 1...20 {
      try await pause(server, id)
      if cycle % 2 == 0 {
        await server.killHard()
        try await server.launch()
      }
      try await resume(server, id)
      if cycle % 2 == 1 {
        await server.killHard()
        try await server.launch()
      }
      let now = try await check(server, id)
      #expect(now.asked == last.asked + 1 && now.counter >= last.counter, "cycle \(cycle)")
      last = now
    }
    try await server.stop()
  }

  @Test("ten clones run the snapshot's processes, but are ten different machines with the right time (L-50, L-51, L-52)")
  func clones() async throws {
    let server = try await MartletServer.start()
    let id = try await begin(server)
    let before = try await check(server, id)
    try await server.cli("snapshot", "create", id, "--name", "frozen").expectSuccess()
    #expect(try await check(server, id).asked == before.asked + 1, "the source runs on")
    var identities: [String: Set<String>] = [:]
    for _ in 0..<10 {
      let clone = try await server.createSandbox("--template", "frozen")
      let script = "head -c 16 /dev/urandom | od -An -tx1; hostname; cat /etc/machine-id; date +%s.%N"
      let lines = try await server.shell(clone, script).split(separator: "\n").map(String.init)
      let clock = try #require(lines.last.flatMap { Double($0) })
      // The date is older than its arrival here by what the answer took.
      #expect(abs(Date().timeIntervalSince1970 - clock) < 5)
      for (name, value) in zip(["random", "hostname", "machine"], lines) { identities[name, default: []].insert(value) }
      #expect(try await check(server, clone).asked == before.asked + 1)
    }
    #expect(identities.values.allSatisfy { $0.count == 10 }, "\(identities)")
    try await server.cli("snapshot", "rm", "frozen").expectSuccess()
    let answer = try await server.request(.POST, "/v1/sandboxes", body: #"{"template":"frozen"}"#)
    #expect(answer.status == 404)
    try await server.stop()
  }

  @Test("forks of a running sandbox go their own ways")
  func fork() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox()
    _ = try await server.shell(id, "echo parent > /tmp/who; echo parent > /var/tmp/who")
    let answer = try await server.request(.POST, "/v1/sandboxes/\(id)/fork", body: #"{"count":4}"#)
    #expect(answer.status == 201)
    let copies = try #require(JSONSerialization.jsonObject(with: answer.body) as? [[String: Any]]).compactMap { $0["id"] as? String }
    #expect(copies.count == 4)
    for copy in copies {
      #expect(try await server.shell(copy, "cat /tmp/who /var/tmp/who") == "parent\nparent\n")
      _ = try await server.shell(copy, "echo \(copy) > /var/tmp/who")
    }
    for copy in copies { #expect(try await server.shell(copy, "cat /var/tmp/who") == "\(copy)\n") }
    #expect(try await server.shell(id, "cat /var/tmp/who") == "parent\n")
    try await server.stop()
  }

  @Test("an idle sandbox is paused within its time-out and 3 s, pings and work keep it awake, the time-out survives (TTL-1..7)")
  func timeToLive() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--timeout", "3")
    let work = Task { try await server.cli("exec", id, "--", "sleep", "7") }
    try await work.value.expectSuccess()
    #expect(try await server.info(id)["status"] as? String == "running")
    for _ in 0..<5 {
      try await server.cli("ping", id).expectSuccess()
      try await Task.sleep(for: .seconds(1))
    }
    #expect(try await server.info(id)["status"] as? String == "running")
    for _ in 0..<2 {
      try await eventually("it is paused", within: .seconds(20)) { try await server.info(id)["status"] as? String == "paused" }
      try await resume(server, id)
    }
    try await server.stop()
  }

  @Test("SIGTERM in the middle of an auto-pause leaves a snapshot that can be resumed (TTL-3)")
  func terminatedWhilePausing() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--timeout", "1")
    _ = try await server.shell(id, "echo kept > /dev/shm/kept")
    try await eventually("it is being paused", within: .seconds(20)) { try await server.info(id)["status"] as? String != "running" }
    #expect(await server.terminate() == .exited(0))
    try await server.launch()
    _ = try? await server.request(.POST, "/v1/sandboxes/\(id)/resume")
    #expect(try await server.shell(id, "cat /dev/shm/kept") == "kept\n")
    try await server.stop()
  }

  @Test("a sandbox with auto_resume answers a command as if it had never been paused")
  func automaticResume() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--auto-resume")
    _ = try await server.shell(id, "echo kept > /dev/shm/kept")
    try await pause(server, id)
    #expect(try await server.shell(id, "cat /dev/shm/kept") == "kept\n")
    try await server.stop()
  }

  @Test("a pager that is killed is replaced while its VM runs; no data is wrong (Must show: pager)")
  func pagerKilled() async throws {
    let server = try await MartletServer.start()
    let id = try await begin(server)
    try await pause(server, id)
    try await resume(server, id)
    for _ in 0..<3 {
      let pager = try #require(pagers(of: server).first)
      kill(pager, SIGKILL)
      _ = try await check(server, id)
      try await eventually("there is another pager") { pagers(of: server).contains { $0 != pager } }
    }
    try await server.stop()
  }

  private func pagers(of server: MartletServer) -> [Int32] {
    let data = server.directory.appending("data").string
    return ProcessTable.pids().filter { pid in
      let arguments = ProcessTable.arguments(of: pid)
      return arguments.contains("pager") && arguments.contains { $0.contains(data) }
    }
  }

  @Test("a damaged page ends that sandbox with the reason, before its guest sees it; others go on (L-22)")
  func damagedPage() async throws {
    let server = try await MartletServer.start()
    let id = try await begin(server)
    let other = try await server.createSandbox()
    try await pause(server, id)
    try flipBytes(of: server)
    let answer = try await server.request(.POST, "/v1/sandboxes/\(id)/resume")
    if answer.status == 200 {
      // Only what the guest asks for is read: let it ask for everything.
      _ = try? await server.shell(id, "cat /dev/shm/memory > /dev/null")
      _ = try? await check(server, id)
      try await eventually("it ends") { try await server.info(id)["status"] as? String == "error" }
    } else {
      #expect(answer.errorCode == "snapshot_damaged")
    }
    #expect(try await server.shell(other, "echo alive") == "alive\n")
    try await server.stop()
  }

  /// Flips a bit in every tenth page of the newest memory layer.
  private func flipBytes(of server: MartletServer) throws {
    let generations = server.directory.appending("data/snapshots/generations")
    let layers = try Directories.names(in: generations).map { generations.appending($0).appending("memory.layer") }
    let newest = try #require(try layers.max { try modified($0) < modified($1) })
    chmod(newest.string, 0o600)
    let file = try OwnedDescriptor.open(newest.string, O_RDWR)
    var status = stat()
    fstat(file.rawValue, &status)
    for offset in stride(from: 4_096 + 100, to: Int(status.st_size) - 8_192, by: 40_960) {
      var byte: UInt8 = 0
      pread(file.rawValue, &byte, 1, offset)
      byte ^= 4
      pwrite(file.rawValue, &byte, 1, offset)
    }
  }

  private func modified(_ path: FilePath) throws -> Int {
    var status = stat()
    stat(path.string, &status)
    return Int(status.st_mtim.tv_sec) * 1_000_000_000 + Int(status.st_mtim.tv_nsec)
  }

  @Test("a server that dies at any step of a pause: the sandbox runs or is paused, and is what it was", arguments: CrashSteps.saving)
  func diesPausing(step: String) async throws {
    let server = try await MartletServer.start(executable: CrashSteps.executable)
    let id = try await server.createSandbox("--memory", "256")
    _ = try await server.shell(id, "echo memory > /dev/shm/kept; echo disk > /var/tmp/kept; sync")
    await server.killHard()
    try await server.launch(environment: ["CRASH_AT": step])
    _ = try? await server.request(.POST, "/v1/sandboxes/\(id)/pause", deadline: .seconds(60))
    #expect(await server.awaitEnd() == .signaled(SIGKILL))
    try await server.launch()
    try await eventually("the row tells the truth") {
      ["running", "paused"].contains(try await server.info(id)["status"] as? String)
    }
    _ = try? await server.request(.POST, "/v1/sandboxes/\(id)/resume")
    #expect(try await server.shell(id, "cat /dev/shm/kept /var/tmp/kept") == "memory\ndisk\n")
    try await pause(server, id)
    try await resume(server, id)
    #expect(try await server.shell(id, "cat /dev/shm/kept /var/tmp/kept") == "memory\ndisk\n")
    try await server.stop()
  }
}
