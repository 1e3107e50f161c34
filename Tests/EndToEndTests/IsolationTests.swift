import Foundation
import LinuxSystem
import SystemPackage
import Testing

extension EndToEnd {
  @Suite struct IsolationTests {
    /// Connects from inside the guest; prints the result and the duration.
    private static func probe(_ host: String, _ port: Int) -> String {
      "s=$(date +%s); busybox nc -w 8 \(host) \(port) </dev/null >/dev/null 2>&1 && echo open || echo refused; "
        + "e=$(date +%s); echo $((e-s))"
    }

    private func expectRefused(_ server: MartletServer, _ id: String, _ host: String, _ port: Int) async throws {
      let lines = try await server.shell(id, Self.probe(host, port)).split(separator: "\n")
      #expect(lines.first == "refused", "\(host):\(port) was reached")
      #expect((Int(lines.last ?? "") ?? 99) <= 2, "\(host):\(port) was dropped, not refused")
    }

    @Test("a sandbox reaches neither other sandboxes nor the host, the metadata address or private ranges")
    func unreachable() async throws {
      try await withSandbox { server, first in
        let second = try await server.createSandbox("--memory", "256")
        let info = try await server.info(second)
        let other = try #require(info["host_ip"] as? String)
        for port in [49_983, 22, 80] { try await expectRefused(server, first, other, port) }
        let own = try #require(try await server.info(first)["host_ip"] as? String)
        try await expectRefused(server, first, own, server.port)
        // The host's end of the veth pair has the preceding address.
        let parts = own.split(separator: ".")
        let last = try #require(parts.last.flatMap { Int($0) })
        let hostSide = "\(parts.dropLast().joined(separator: ".")).\(last - 1)"
        try await expectRefused(server, first, hostSide, server.port)
        try await expectRefused(server, first, "169.254.0.22", server.port)
        for address in ["169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"] {
          try await expectRefused(server, first, address, 80)
        }
        try await server.cli("kill", second).expectSuccess()
      }
    }

    @Test(
      "inside the guest the agent refuses calls without the host's token, and all calls of its control routes"
    )
    func agentToken() async throws {
      try await withSandbox("--template", "base") { server, id in
        let list =
          "curl -s -o /dev/null -w '%{http_code}' -X POST -H 'content-type: application/json' -d '{}' "
          + "http://127.0.0.1:49983/process.Process/List"
        let listed = try await server.shell(id, list)
        #expect(listed == "401")
        let initialize =
          "curl -s -o /dev/null -w '%{http_code}' -X POST -H 'content-type: application/json' -d '{}' "
          + "http://127.0.0.1:49983/init"
        let initialized = try await server.shell(id, initialize)
        #expect(["401", "403", "404"].contains(initialized))
      }
    }

    @Test("the VMM runs as a user of its own, in a network namespace, with a seccomp filter and no_new_privs")
    func confinement() async throws {
      try await withSandbox { server, _ in
        let pid = try #require(server.machines.first)
        let status = try SmallFile.readText("/proc/\(pid)/status")
        func field(_ name: String) -> [Substring] {
          status.split(separator: "\n").first { $0.hasPrefix("\(name):") }?.split(whereSeparator: \.isWhitespace)
            .dropFirst().map { $0 }
            ?? []
        }
        #expect(field("Uid").allSatisfy { (Int($0) ?? 0) >= 2_000_000 })
        #expect(field("CapEff") == ["0000000000000000"])
        #expect(field("Seccomp") == ["2"])
        #expect(field("NoNewPrivs") == ["1"])
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/net")
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/net") != own)
      }
    }

    @Test("a process that uses all memory of a guest is killed; the guest agent survives")
    func memoryHunger() async throws {
      try await withSandbox("--template", "base", "--memory", "256") { server, id in
        let eater = try await server.cli(
          "exec", id, "--", "python3", "-c", "x = []\nwhile True: x.append(bytearray(1 << 20))")
        #expect(eater.status != .exited(0))
        #expect(try await server.shell(id, "echo alive") == "alive\n")
      }
    }
  }
}
