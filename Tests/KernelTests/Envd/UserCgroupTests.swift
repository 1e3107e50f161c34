import Envd
import Glibc
import LinuxSystem
import SystemPackage
import Testing

/// Freezes processes in a control group of this machine's cgroup2 hierarchy, wherever it is mounted.
@Suite(.serialized, .timeLimit(.minutes(1))) struct UserCgroupTests {
  private func hierarchy() throws -> FilePath {
    let roots: [FilePath] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
    return try #require(
      roots.first {
        access($0.appending("cgroup.procs").string, W_OK) == 0
          && access($0.appending("cgroup.controllers").string, F_OK) == 0
      },
      "no cgroup2 hierarchy is mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified")
  }

  /// CPU time that a process has used, in clock ticks.
  private func ticks(of pid: Int32) throws -> UInt64 {
    let text = try SmallFile.readText("/proc/\(pid)/stat")
    let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    return (UInt64(fields[12]) ?? 0) + (UInt64(fields[13]) ?? 0)
  }

  @Test("frozen processes use no CPU time until they are thawed; thawing twice is allowed")
  func freeze() async throws {
    let group = UserCgroup(directory: try hierarchy().appending("martlet-test-\(getpid())"))
    try Directories.create(group.directory)
    var request = SpawnRequest(executable: "/bin/sh", arguments: ["-c", "while :; do :; done"])
    request.cgroups = [try group.joinDescriptor()]
    let child = try ChildProcess.spawn(request)
    let outcome = await Task {
      try await eventually("it runs") { try ticks(of: child.pid) > 0 }
      try group.freeze()
      let frozen = try ticks(of: child.pid)
      try await Task.sleep(for: .milliseconds(300))
      #expect(try ticks(of: child.pid) == frozen)
      try group.thaw()
      try group.thaw()
      try await eventually("it runs again") { try ticks(of: child.pid) > frozen }
    }.result
    try group.thaw()
    child.signal(SIGKILL)
    _ = await child.wait()
    try await eventually("the group can be removed") { rmdir(group.directory.string) == 0 }
    try outcome.get()
  }

  @Test("without a cgroup2 hierarchy creating and freezing throw")
  func missing() {
    #expect(throws: SystemError.self) { try UserCgroup.create(totalMemoryBytes: 1 << 30, root: "/no/such/hierarchy") }
    #expect(throws: SystemError.self) { try UserCgroup(directory: "/no/such/group").freeze() }
  }
}
