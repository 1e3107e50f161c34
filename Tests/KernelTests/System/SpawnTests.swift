import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import Testing

private func descriptors() throws -> Int { try Directories.names(in: "/proc/self/fd").count }

@Suite(.serialized) struct SpawnTests {
  /// Runs a shell command with its output in a pipe.
  private func output(
    _ command: String, _ change: (inout SpawnRequest) throws -> Void = { _ in }
  ) async throws -> String {
    let (read, write) = try OwnedDescriptor.pipe()
    let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    var request = SpawnRequest(
      executable: "/bin/sh", arguments: ["-c", command], environment: ["PATH": "/usr/bin:/bin"],
      descriptors: [0: null.rawValue, 1: write.rawValue, 2: write.rawValue])
    try change(&request)
    let child = try ChildProcess.spawn(request)
    write.close()
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while case let count = Glibc.read(read.rawValue, &buffer, buffer.count), count > 0 { content += buffer[0..<count] }
    #expect(await child.wait() == .exited(0))
    return String(decoding: content, as: UTF8.self).trimmingCharacters(in: .newlines)
  }

  @Test("a child has exactly the descriptors that were mapped")
  func onlyMapped() async throws {
    let extra = try OwnedDescriptor.open("/dev/zero", O_RDONLY)
    let listing = try await output("ls /proc/self/fd") { $0.descriptors[5] = extra.rawValue }
    // `ls` itself opens one more for the directory.
    #expect(listing.split(separator: "\n").map(String.init) == ["0", "1", "2", "3", "5"])
  }

  @Test("exchanged descriptor numbers are mapped correctly")
  func exchanged() async throws {
    let (read, write) = try OwnedDescriptor.pipe()
    let null = try OwnedDescriptor.open("/dev/null", O_RDWR)
    let child = try ChildProcess.spawn(
      SpawnRequest(
        executable: "/bin/sh", arguments: ["-c", "echo out > /proc/self/fd/\(null.rawValue)"],
        descriptors: [null.rawValue: write.rawValue, write.rawValue: null.rawValue, 0: null.rawValue]))
    _ = await child.wait()
    write.close()
    var buffer = [UInt8](repeating: 0, count: 16)
    #expect(Glibc.read(read.rawValue, &buffer, 16) == 4)
  }

  @Test("credentials are dropped completely, including supplementary groups")
  func credentials() async throws {
    let status = try await output("grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs):' /proc/self/status") {
      $0.credentials = SpawnRequest.Credentials(uid: 1_234, gid: 2_345, groups: [2_345, 3_456])
      $0.forbidsNewPrivileges = true
    }
    let fields = status.split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
    #expect(fields.contains(["Uid:", "1234", "1234", "1234", "1234"]))
    #expect(fields.contains(["Gid:", "2345", "2345", "2345", "2345"]))
    #expect(fields.contains(["Groups:", "2345", "3456"]))
    #expect(fields.contains(["CapEff:", "0000000000000000"]))
    #expect(fields.contains(["NoNewPrivs:", "1"]))
  }

  @Test("each failing step is named, and the failed child is reaped")
  func failures() throws {
    let before = try descriptors()
    func step(_ change: (inout SpawnRequest) -> Void) -> SpawnError.Step? {
      var request = SpawnRequest(executable: "/bin/true")
      change(&request)
      do {
        _ = try ChildProcess.spawn(request).reapBlocking()
        return nil
      } catch {
        return error.step
      }
    }
    #expect(step { $0.executable = "/no/such/program" } == .execute)
    #expect(step { $0.workingDirectory = "/no/such/directory" } == .workingDirectory)
    #expect(step { $0.descriptors = [0: 9_999] } == .descriptors)
    #expect(step { $0.controllingTerminal = 0 } == .terminal)
    #expect(step { $0.limits = [(Int32(RLIMIT_NOFILE.rawValue), 2, 1)] } == .limits)
    #expect(step { _ in } == nil)
    #expect(waitpid(-1, nil, WNOHANG) == -1, "no child is left")
    #expect(try descriptors() == before)
  }

  @Test("a signal that ends a child is distinguished from an exit status")
  func exits() async throws {
    let killed = try ChildProcess.spawn(SpawnRequest(executable: "/bin/sleep", arguments: ["100"]))
    killed.signal(SIGKILL)
    #expect(await killed.wait() == .signaled(SIGKILL))
    #expect(!killed.signal(SIGTERM))
    #expect(
      await (try ChildProcess.spawn(SpawnRequest(executable: "/bin/sh", arguments: ["-c", "exit 9"]))).wait()
        == .exited(9))
  }

  @Test("a process handle never refers to another process")
  func handles() async throws {
    let child = try ChildProcess.spawn(SpawnRequest(executable: "/bin/sleep", arguments: ["100"]))
    let ticks = try #require(try ProcessTable.startTimeTicks(of: child.pid))
    #expect(try ProcessHandle.open(pid: child.pid, startTimeTicks: ticks + 1) == nil)
    let handle = try #require(try ProcessHandle.open(pid: child.pid, startTimeTicks: ticks))
    #expect(!handle.hasEnded)
    handle.signal(SIGKILL)
    await handle.waitForExit()
    #expect(handle.reap() == .signaled(SIGKILL))
    #expect(try ProcessHandle.open(pid: child.pid, startTimeTicks: ticks) == nil)
  }

  @Test("a process that cannot be looked for, because no descriptor is left, is not taken for ended")
  func withoutDescriptors() async throws {
    let child = try ChildProcess.spawn(SpawnRequest(executable: "/bin/sleep", arguments: ["100"]))
    let ticks = try #require(try ProcessTable.startTimeTicks(of: child.pid))
    let outcome = withoutDescriptors {
      (
        open: Result { () throws(SystemError) in try ProcessHandle.open(pid: child.pid, startTimeTicks: ticks) != nil },
        ofChild: Result { () throws(SystemError) in try ProcessHandle.of(child) != nil },
        ticks: Result { () throws(SystemError) in try ProcessTable.startTimeTicks(of: child.pid) != nil },
        arguments: Result { () throws(SystemError) in try !ProcessTable.arguments(of: child.pid).isEmpty },
        pids: Result { () throws(SystemError) in try ProcessTable.pids().contains(child.pid) }
      )
    }
    for result in [outcome.open, outcome.ofChild, outcome.ticks, outcome.arguments, outcome.pids] {
      let error = #expect(throws: SystemError.self) { try result.get() }
      #expect(error?.errno == .tooManyOpenFiles)
    }
    child.signal(SIGKILL)
    _ = await child.wait()
    #expect(try ProcessHandle.open(pid: child.pid, startTimeTicks: ticks) == nil)
    #expect(try ProcessTable.arguments(of: child.pid) == [])
  }

  @Test("waiting for a descriptor that cannot be watched does not spin")
  func unwatchable() async throws {
    let watcher = DescriptorWatcher()
    let begin = ContinuousClock.now
    for _ in 0..<3 { await watcher.waitUntilReadable(-1) }
    #expect(ContinuousClock.now - begin >= .milliseconds(250))
    let cancelled = Task { await watcher.waitUntilReadable(-1) }
    cancelled.cancel()
    await cancelled.value
  }

  /// Runs `body` when every call that needs a new descriptor fails with EMFILE.
  private func withoutDescriptors<Value>(_ body: () -> Value) -> Value {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    var none = rlimit(rlim_cur: 3, rlim_max: limit.rlim_max)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
    defer { setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) }
    return body()
  }
}

@Suite(.serialized) struct ToolTests {
  @Test("input is written, and both outputs are collected")
  func conversation() async throws {
    let output = try await Tool.run("sh", ["-c", "cat; echo err >&2; exit 3"], input: "in")
    #expect(output.outputText == "in")
    #expect(output.errorText == "err\n")
    #expect(output.status == .exited(3))
    #expect(throws: ToolError.self) { try output.checked() }
  }

  @Test("a program that exceeds its deadline is killed and reaped")
  func deadline() async throws {
    let before = try descriptors()
    await #expect(throws: ToolError.self) { try await Tool.run("sleep", ["100"], deadline: .milliseconds(50)) }
    #expect(try descriptors() <= before + 1)
  }

  @Test("a cancelled run kills its program")
  func cancellation() async throws {
    let task = Task { try await Tool.run("sleep", ["100"]) }
    task.cancel()
    await #expect(throws: ToolError.self) { try await task.value }
  }

  @Test("output beyond the limit is dropped")
  func bounded() async throws {
    let output = try await Tool.run("sh", ["-c", "head -c 1000000 /dev/zero"], outputLimit: 1_000)
    #expect(output.standardOutput.count == 1_000)
    #expect(output.isSuccess)
  }

  @Test("input larger than a pipe does not block")
  func largeInput() async throws {
    let output = try await Tool.run("wc", ["-c"], input: String(repeating: "x", count: 1_000_000))
    #expect(output.outputText.contains("1000000"))
  }

  @Test("a missing program is reported by name")
  func missing() async throws {
    let error = await #expect(throws: ToolError.self) { try await Tool.run("no-such-program") }
    #expect(error?.description == "no-such-program is not installed")
  }
}

@Suite(.serialized) struct CgroupTests {
  @Test("a group limits its members and does not exist after its removal")
  func roundTrip() async throws {
    let hierarchy = try #require(CgroupHierarchy.detect(), "this host has no control groups; the tests need them")
    let group = Cgroup(hierarchy: hierarchy, name: "test-\(getpid())", parent: "martlet-test")
    try group.create(limits: CgroupLimits(memoryBytes: 64 << 20, cpuPercent: 50, processes: 16))
    let null = try OwnedDescriptor.open("/dev/null", O_RDWR)
    var request = SpawnRequest(
      executable: "/bin/sleep", arguments: ["100"], descriptors: [0: null.rawValue, 1: null.rawValue, 2: null.rawValue])
    request.cgroups = try group.joinDescriptors()
    let child = try ChildProcess.spawn(request)
    #expect(try group.processes() == [child.pid])
    #expect(try Cgroup.existingNames(in: hierarchy, parent: "martlet-test").contains(group.name))
    child.signal(SIGKILL)
    _ = await child.wait()
    try await group.remove()
    #expect(try !Cgroup.existingNames(in: hierarchy, parent: "martlet-test").contains(group.name))
    #expect(try group.processes() == [])
    try await group.remove()
  }

  @Test("a process that exceeds the memory limit is killed, and the group reports it")
  func memory() async throws {
    let hierarchy = try #require(CgroupHierarchy.detect())
    guard hierarchy.roots["memory"] != nil else {
      throw SystemError("cgroup", .notSupported, subject: "memory controller")
    }
    let group = Cgroup(hierarchy: hierarchy, name: "hungry-\(getpid())", parent: "martlet-test")
    try group.create(limits: CgroupLimits(memoryBytes: 32 << 20))
    let null = try OwnedDescriptor.open("/dev/null", O_RDWR)
    let python = try #require(Tool.find("python3"), "python3 is not installed; run make test")
    var request = SpawnRequest(
      executable: python, arguments: ["-c", "x = bytearray(b'x') * (200 << 20)"],
      environment: ["PATH": "/usr/bin:/bin"],
      descriptors: [0: null.rawValue, 1: null.rawValue, 2: null.rawValue])
    request.cgroups = try group.joinDescriptors()
    let child = try ChildProcess.spawn(request)
    #expect(await child.wait() == .signaled(SIGKILL))
    #expect(group.wasOutOfMemory())
    try await group.remove()
  }
}

@Suite struct SmallFileTests {
  @Test("replacing a file leaves either the old or the new content, with the requested mode")
  func replace() throws {
    let path = FilePath("/tmp/martlet-small-\(getpid())")
    defer { unlink(path.string) }
    try SmallFile.replace(path, with: [1], mode: 0o600)
    try SmallFile.replace(path, with: [2, 3], mode: 0o600)
    #expect(try SmallFile.read(path.string) == [2, 3])
    #expect(try Directories.names(in: "/tmp").filter { $0.hasPrefix("martlet-small-\(getpid())") }.count == 1)
  }

  @Test("of many writers at the same time one wins, and the file is whole at every moment")
  func concurrentWriters() async throws {
    let directory = FilePath("/tmp/martlet-writers-\(getpid())")
    try Directories.create(directory)
    defer { try? Directories.removeTree(directory) }
    let path = directory.appending("state")
    let size = 200_000
    try SmallFile.replace(path, with: [UInt8](repeating: 0, count: size), mode: 0o600)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in UInt8(1)...8 {
        group.addTask {
          try await BlockingPool.shared.run { () throws(SystemError) in
            for _ in 0..<20 {
              try SmallFile.replace(path, with: [UInt8](repeating: writer, count: size), mode: 0o600)
              let content = try SmallFile.read(path.string)
              guard content.count == size, Set(content).count == 1 else {
                throw SystemError("read", .ioError, subject: "\(content.count) bytes of \(Set(content).count) writers")
              }
            }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(try Directories.names(in: directory) == ["state"])
  }

  @Test("what a writer that died left is removed by the next one, what a living one writes is not")
  func leftovers() throws {
    let directory = FilePath("/tmp/martlet-leftovers-\(getpid())")
    try Directories.create(directory)
    defer { try? Directories.removeTree(directory) }
    let living = try OwnedDescriptor.open(
      directory.appending("state.00000000000000aa.new").string, O_WRONLY | O_CREAT, mode: 0o600)
    try #require(flock(living.rawValue, LOCK_EX) == 0)
    for name in ["state.00000000000000ab.new", "state.00000000000000ab.newer", "other.00000000000000ab.new"] {
      _ = try OwnedDescriptor.open(directory.appending(name).string, O_WRONLY | O_CREAT, mode: 0o600)
    }
    try SmallFile.replace(directory.appending("state"), with: [1], mode: 0o600)
    #expect(
      try Directories.names(in: directory).sorted() == [
        "other.00000000000000ab.new", "state", "state.00000000000000aa.new", "state.00000000000000ab.newer",
      ])
  }

  @Test("removing a tree never follows a link out of it")
  func removeTree() throws {
    let root = FilePath("/tmp/martlet-tree-\(getpid())")
    let outside = FilePath("/tmp/martlet-outside-\(getpid())")
    defer { unlink(outside.string) }
    try SmallFile.replace(outside, with: [1], mode: 0o600)
    try Directories.create(root.appending("a/b"))
    symlink("/tmp", root.appending("a/out").string)
    symlink(outside.string, root.appending("a/file").string)
    try Directories.removeTree(root)
    #expect(access(root.string, F_OK) != 0)
    #expect(try SmallFile.read(outside.string) == [1])
    try Directories.removeTree(root)
  }
}
