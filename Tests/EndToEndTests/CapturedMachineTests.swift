import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import Testing

extension EndToEnd {
  /// What a captured VMM and a local user of the host reach of other sandboxes: nothing.
  @Suite struct CapturedMachineTests {
    /// Two sandboxes, each with a secret of its own in its memory and on its disk; the second one's memory is served by
    /// a pager, and the first has a snapshot.
    private struct Stage {
      let server: MartletServer
      let secrets: [String]

      static func make(_ server: MartletServer) async throws -> Stage {
        var secrets: [String] = []
        for index in 0..<2 {
          let id = try await server.createSandbox("--memory", "256")
          // Made in the guest, so that no command line has it; kept out of this process's own arguments too.
          let secret = try await server.shell(
            id, "head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \\n' | tee /dev/shm/secret /root/secret; sync")
          try #require(secret.utf8.count == 48)
          secrets.append(secret)
          if index == 0 { try await server.cli("snapshot", "create", id, "kept").expectSuccess() }
          try await server.pause(id)
          try await server.resume(id)
        }
        return Stage(server: server, secrets: secrets)
      }

      var data: String { server.directory.appending("data").string }

      /// Every name in the data directory.
      func paths() throws -> [String] {
        var paths: [String] = []
        try visit(FilePath(data)) { path, _ in paths.append(path.string) }
        return paths
      }
    }

    /// Where the disk lies that a VMM has open.
    private func runDirectory(of machine: Int32) throws -> String {
      let links = try Directories.names(in: FilePath("/proc/\(machine)/fd")).compactMap {
        try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(machine)/fd/\($0)")
      }
      let disk = try #require(links.first { $0.contains("/instances/") && $0.contains("/disk-") })
      return FilePath(disk).removingLastComponent().string
    }

    private func status(_ pid: Int32) throws -> [String: String] {
      var fields: [String: String] = [:]
      for line in try SmallFile.readText("/proc/\(pid)/status").split(separator: "\n") {
        let parts = line.split(separator: ":", maxSplits: 1)
        fields[String(parts[0])] = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : ""
      }
      return fields
    }

    private func expectConfined(_ pid: Int32) throws {
      let fields = try status(pid)
      let none = "0000000000000000"
      for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] { #expect(fields[name] == none, "\(name)") }
      #expect(fields["NoNewPrivs"] == "1")
      #expect(fields["Seccomp"] == "2")
      let users = try #require(fields["Uid"]).split(whereSeparator: \.isWhitespace)
      #expect(users.count == 4 && users.allSatisfy { (Int($0) ?? 0) >= 2_000_000 })
      #expect(fields["Groups"] == "")
      let limits = try SmallFile.readText("/proc/\(pid)/limits")
      let core = limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") }
      #expect(core?.split(whereSeparator: \.isWhitespace).dropFirst(4).prefix(2).elementsEqual(["0", "0"]) == true)
      // What is not dumpable belongs to root.
      #expect(try FileStatus.of("/proc/\(pid)/environ", followingLinks: false)?.ownerUID == 0)
    }

    @Test("VMMs and pagers have no privilege, no core dump, namespaces of their own, and are in the control group")
    func privileges() async throws {
      try await withServer { server in
        let id = try await server.createSandbox("--memory", "256")
        try await server.pause(id)
        try await server.resume(id)
        let (machine, pager) = (try #require(server.machines.first), try #require(server.pagers.first))
        for pid in [machine, pager] { try expectConfined(pid) }
        func namespace(_ kind: String, of pid: Int32) throws -> String {
          try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/\(kind)")
        }
        for kind in ["pid", "mnt", "ipc", "uts", "net"] {
          #expect(try namespace(kind, of: machine) != namespace(kind, of: server.pid), "\(kind)")
        }
        #expect(try namespace("mnt", of: pager) != namespace("mnt", of: server.pid))
        #expect(try Directories.names(in: FilePath("/proc/\(pager)/root")) == [])
        if CgroupHierarchy.detect() != nil {
          #expect(try SmallFile.readText("/proc/\(machine)/cgroup") == SmallFile.readText("/proc/\(pager)/cgroup"))
        }
        #expect(try FileStatus.of("/proc/\(server.pid)/environ", followingLinks: false)?.ownerUID == 0)
        let limits = try SmallFile.readText("/proc/\(server.pid)/limits")
        #expect(limits.contains(/Max core file size +0 +0/))
      }
    }

    @Test("in the namespaces of a VMM its user finds no file of any sandbox, and no process but its own")
    func captured() async throws {
      try await withServer { server in
        let stage = try await Stage.make(server)
        let machines = server.machines
        try #require(machines.count == 2)
        // The walk works: root finds both secrets.
        let root = try await FileWalk.run(as: 0, roots: stage.paths(), secrets: stage.secrets)
        #expect(Set(root.found.keys) == Set(stage.secrets))
        for machine in machines {
          let user = try #require(try ProcessTable.userID(of: machine))
          // It may know or guess every name that there is.
          let walk = try await FileWalk.run(
            as: user, in: machine, roots: ["/"] + stage.paths(), secrets: stage.secrets)
          let others = try machines.filter { $0 != machine }.map { try runDirectory(of: $0) }
          #expect(walk.found.isEmpty, "\(walk.found)")
          #expect(walk.writable.isEmpty, "\(walk.writable)")
          #expect(walk.connected.isEmpty, "\(walk.connected)")
          #expect(walk.listed.contains("/dev"))
          #expect(!walk.seen.contains { name in others.contains { name.hasPrefix($0) } })
          // The walk sees itself, and not even the VMM.
          #expect(walk.processes.count == 1 && walk.processes != [1], "\(walk.processes)")
        }
      }
    }

    @Test("on the host neither nobody nor a VMM's user reads or writes anything of a sandbox, nor connects to it")
    func localUser() async throws {
      try await withServer { server in
        let stage = try await Stage.make(server)
        let machine = try #require(server.machines.first)
        let nobody: UInt32 = 65_534
        let roots =
          try [stage.data, "/run/martlet", "/run/netns", "/dev/shm"] + stage.paths()
          + (server.machines + server.pagers).map { "/proc/\($0)" }
        for user in [nobody, try #require(try ProcessTable.userID(of: machine))] {
          let walk = try await FileWalk.run(as: user, roots: roots, secrets: stage.secrets)
          #expect(walk.found.isEmpty, "\(walk.found)")
          #expect(walk.listed.allSatisfy { !$0.hasPrefix(stage.data) }, "\(walk.listed)")
          // Some files of /proc can be opened by every user, and refuse what is written.
          #expect(walk.writable.allSatisfy { !$0.hasPrefix(stage.data) }, "\(walk.writable)")
          #expect(walk.connected.isEmpty)
        }
        // Nor does a command line.
        let commands = try ProcessTable.pids().flatMap { try ProcessTable.arguments(of: $0) }
        #expect(!commands.contains { argument in stage.secrets.contains { argument.contains($0) } })
      }
    }

    @Test("all that a server makes in a fresh data directory is closed to other users")
    func modes() async throws {
      try await withServer { server in
        let stage = try await Stage.make(server)
        var open: [String] = []
        var count = 0
        try visit(FilePath(stage.data)) { path, status in
          count += 1
          // The run directory lets its VMM's group pass, and only pass.
          let isRunDirectory = path.removingLastComponent().lastComponent?.string == "instances"
          let allowed: UInt32 = isRunDirectory ? 0o710 : 0o700
          // Disk layers are the concern of their own tests.
          let isLayer = path.string.contains("disk-layers/") || path.lastComponent?.string == "disk.layer"
          if status.kind != .link, !isLayer, status.mode & ~allowed & 0o777 != 0 {
            open.append("\(path) \(String(status.mode, radix: 8))")
          }
        }
        #expect(count > 20)
        #expect(open.isEmpty, "\(open)")
      }
    }

    private func withServer(_ body: (MartletServer) async throws -> Void) async throws {
      let server = try await MartletServer.start()
      do {
        try await body(server)
      } catch {
        try? await server.stop()
        throw error
      }
      try await server.stop()
    }
  }
}

private func visit(_ path: FilePath, _ body: (FilePath, FileStatus) -> Void) throws {
  guard let status = try FileStatus.of(path.string, followingLinks: false) else { return }
  body(path, status)
  guard status.kind == .directory else { return }
  for name in try Directories.names(in: path) { try visit(path.appending(name), body) }
}
