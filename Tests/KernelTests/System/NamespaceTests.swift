import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import Testing

@Suite(.serialized) struct NamespaceTests {
  /// A root with the distribution's programs and nothing else.
  private func root() throws -> MountNamespace {
    var steps: [MountStep] = [.directory("/usr"), .bind("/usr", at: "/usr", .programs)]
    for link in ["bin", "lib", "lib64"] { steps.append(.symbolicLink("/\(link)", to: "usr/\(link)")) }
    return try MountNamespace.make(
      steps + [
        .directory("/proc"), .directory("/dev"), .deviceDirectory("/dev"), .device("/dev/null", at: "/dev/null"),
      ])
  }

  /// Runs a shell command as process 1 of namespaces of its own.
  private func output(
    _ command: String, in root: MountNamespace, _ steps: [MountStep] = [], uid: UInt32 = 65_534
  ) async throws -> String {
    let (read, write) = try OwnedDescriptor.pipe()
    var request = SpawnRequest(
      executable: "/bin/sh", arguments: ["-c", command], environment: ["PATH": "/usr/bin"],
      descriptors: [1: write.rawValue, 2: write.rawValue])
    request.isolatesProcesses = true
    request.forbidsCapabilities = true
    request.forbidsNewPrivileges = true
    request.credentials = SpawnRequest.Credentials(uid: uid, gid: uid)
    request.mounts = SpawnRequest.Mounts(
      namespace: root, steps: [.processes("/proc")] + steps + [.protect("/", [.readOnly, .noSetUserID, .noDevices])])
    let child = try ChildProcess.spawn(request)
    write.close()
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while case let count = Glibc.read(read.rawValue, &buffer, buffer.count), count > 0 { content += buffer[0..<count] }
    _ = await child.wait()
    return String(decoding: content, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  private func mounts() throws -> Int { try SmallFile.readText("/proc/self/mounts").split(separator: "\n").count }

  @Test("a child sees what was bound into its root, its own process, and cannot write")
  func view() async throws {
    let root = try root()
    #expect(try await output("ls /", in: root) == "bin\ndev\nlib\nlib64\nproc\nusr")
    #expect(try await output("echo $$; ls /proc | grep -v '[^0-9]' | grep -x 1", in: root) == "1\n1")
    #expect(
      try await output("touch /new /usr/new /proc/new 2>/dev/null; echo $?; ls / /usr | grep new", in: root) == "1")
    #expect(try await output("echo x > /dev/null && ls /dev", in: root) == "null")
  }

  @Test("a child without privileges has no capability in any set, and root does not get them back")
  func capabilities() async throws {
    let root = try root()
    for uid: UInt32 in [65_534, 0] {
      let sets = try await output(
        "grep ^Cap /proc/self/status | grep -v 0000000000000000; echo end", in: root, uid: uid)
      #expect(sets == "end", "\(uid)")
    }
  }

  @Test("a file that one child is given is under its name there, read-only, and unknown to the next")
  func attached() async throws {
    let root = try root()
    let file = "/var/tmp/martlet-namespace-\(UUID().uuidString)"
    try SmallFile.replace(FilePath(file), with: Array("content".utf8), mode: 0o644)
    defer { unlink(file) }
    let steps: [MountStep] = [
      .directory("/var"), .memory("/var"), .directory("/var/tmp"), .file(file),
      .attach(try DetachedMount(file), at: file, .data), .protect("/var", .data),
    ]
    #expect(try await output("cat \(file); echo x > \(file)", in: root, steps).hasPrefix("content"))
    #expect(try SmallFile.readText(file) == "content")
    #expect(try await output("ls /var", in: root) == "")
  }

  @Test("nothing is mounted on the host, and nothing stays of namespaces without processes")
  func nothingLeft() async throws {
    let before = try (mounts(), Directories.names(in: "/proc/self/fd").count)
    do {
      let root = try root()
      for _ in 0..<5 { _ = try await output("true", in: root) }
    }
    #expect(try mounts() == before.0)
    #expect(try Directories.names(in: "/proc/self/fd").count == before.1)
  }

  @Test("a mount that fails is named, and the child is reaped")
  func failure() throws {
    var request = SpawnRequest(executable: "/bin/true")
    request.mounts = SpawnRequest.Mounts(namespace: try root(), steps: [.protect("/missing", .data)])
    let error = #expect(throws: SpawnError.self) { try ChildProcess.spawn(request) }
    #expect(error?.step == .mount && error?.subject == "/missing" && error?.errno == .noSuchFileOrDirectory)
    #expect(waitpid(-1, nil, WNOHANG) == -1)
  }

  @Test("the process that ends the others when it ends is killed like any other")
  func killed() async throws {
    var request = SpawnRequest(executable: "/bin/sleep", arguments: ["100"])
    request.isolatesProcesses = true
    let child = try ChildProcess.spawn(request)
    child.signal(SIGTERM)
    #expect(child.reapIfEnded() == nil)
    child.signal(SIGKILL)
    #expect(await child.wait() == .signaled(SIGKILL))
  }
}
