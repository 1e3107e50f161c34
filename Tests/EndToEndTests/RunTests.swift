import Foundation
import LinuxSystem
import SystemPackage
import Testing

/// All tests that share one server. They run serially, because two cores can boot only one guest at a time quickly.
@Suite(.serialized, .runningServer) struct EndToEnd {}

extension EndToEnd {
  @Suite struct RunTests {
    @Test("run executes a program in a microVM of the template base")
    func python() async throws {
      let output = try await currentServer().cli("run", "--template", "base", "--", "python3", "-c", "print(2**100)")
      try output.expectSuccess()
      #expect(output.outputText == "1267650600228229401496703205376\n")
    }

    @Test("standard input and the exit code pass through run")
    func passThrough() async throws {
      let output = try await currentServer().cli("run", "--", "sh", "-c", "cat; exit 7", input: "hi\n")
      #expect(output.outputText == "hi\n")
      #expect(output.status == .exited(7))
    }

    @Test("all 256 byte values pass unchanged through exec, stream and files")
    func everyByte() async throws {
      try await withSandbox { server, id in
        let bytes = [UInt8](0...255)
        let file = server.directory.appending("bytes")
        try SmallFile.replace(file, with: bytes, mode: 0o600)
        try await server.cli("cp", file.string, "\(id):/tmp/bytes").expectSuccess()

        let stream = try await server.cli("exec", id, "--", "cat", "/tmp/bytes")
        #expect(stream.standardOutput == bytes)

        let exec = try await server.request(
          .POST, "/v1/sandboxes/\(id)/exec", body: #"{"cmd":"cat","args":["/tmp/bytes"]}"#)
        #expect(exec.json["encoding"] as? String == "base64")
        #expect((exec.json["stdout"] as? String).flatMap { Data(base64Encoded: $0) } == Data(bytes))

        try await server.cli("cp", "\(id):/tmp/bytes", file.string + ".back").expectSuccess()
        #expect(try SmallFile.read(file.string + ".back") == bytes)
      }
    }

    @Test("vCPUs, memory and disk have the requested sizes")
    func shape() async throws {
      try await withSandbox("--vcpus", "2", "--memory", "384", "--disk", "3072") { server, id in
        #expect(try await server.shell(id, "nproc") == "2\n")
        let memory = try await server.shell(id, "awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo")
        #expect((300...384).contains(Int(memory.trimmingCharacters(in: .newlines)) ?? 0))
        let disk = try await server.shell(id, "df -m / | awk 'NR==2 {print $2}'")
        #expect((2_800...3_072).contains(Int(disk.trimmingCharacters(in: .newlines)) ?? 0))
        let isolation = try await server.info(id)["isolation"] as? [String: Any]
        #expect(isolation?["vmm"] as? String == "qemu")
        #expect(["tcg", "kvm"].contains(isolation?["accelerator"] as? String))
      }
    }

    @Test("a command has the requested environment, directory and user")
    func environment() async throws {
      try await withSandbox("--env", "FROM_SANDBOX=1") { server, id in
        let output = try await server.cli(
          "exec", "--env", "FROM_CALL=2", "--cwd", "/tmp", "--user", "user", id, "--", "sh", "-c",
          "echo $FROM_SANDBOX $FROM_CALL $(pwd) $(id -un)")
        #expect(output.outputText == "1 2 /tmp user\n")
      }
    }

    @Test("a directory is copied in and out unchanged")
    func directories() async throws {
      try await withSandbox { server, id in
        let tree = server.directory.appending("tree")
        try Directories.create(tree.appending("a/b"))
        try SmallFile.replace(tree.appending("a/b/one"), with: Array("1".utf8), mode: 0o644)
        try SmallFile.replace(tree.appending("two"), with: Array("2".utf8), mode: 0o755)
        try await server.cli("cp", tree.string, "\(id):/root/tree").expectSuccess()
        #expect(try await server.shell(id, "cat /root/tree/a/b/one /root/tree/two") == "12")
        try await server.cli("cp", "\(id):/root/tree", tree.string + ".back").expectSuccess()
        #expect(try SmallFile.readText(tree.string + ".back/a/b/one") == "1")
      }
    }

    @Test("a template built from a tree boots and holds the tree's files")
    func template() async throws {
      let server = try currentServer()
      let tree = server.directory.appending("rootfs")
      try Directories.create(tree.appending("bin"))
      try await Tool.run("cp", ["/bin/busybox", tree.appending("bin/busybox").string]).checked()
      try await Tool.run("ln", ["-s", "busybox", tree.appending("bin/sh").string]).checked()
      try SmallFile.replace(tree.appending("marker"), with: Array("mine".utf8), mode: 0o644)
      let name = "e2e-\(server.port)"
      try await server.cli(
        "template", "build", name, "--from", tree.string, "--image-dir", MartletServer.imageDirectory
      ).expectSuccess()
      let output = try await server.cli("run", "--template", name, "--", "sh", "-c", "busybox cat /marker")
      #expect(output.outputText == "mine")
    }
  }

  @Suite struct ManySandboxes {
    @Test("twenty sandboxes created at once all respond, and nothing is left after their destruction")
    func twenty() async throws {
      let server = try currentServer()
      let before = try await Census.take(server)
      let ids = try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 0..<20 { group.addTask { try await server.createSandbox("--memory", "256") } }
        return try await group.reduce(into: [String]()) { $0.append($1) }
      }
      #expect(Set(ids).count == 20)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for (index, id) in ids.enumerated() {
          group.addTask {
            let response = try await server.shell(id, "echo \(index)")
            #expect(response == "\(index)\n")
          }
        }
        try await group.waitForAll()
      }
      try await server.cli(["kill"] + ids).expectSuccess()
      // A leak of one descriptor per sandbox would be twenty.
      try await before.awaitSame(server, descriptorSlack: 48, ownSlack: 8)
    }
  }
}
