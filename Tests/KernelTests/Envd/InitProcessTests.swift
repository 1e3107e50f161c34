import AsyncHTTPClient
import ConnectClient
import Glibc
import LinuxSystem
import NIOCore
import NIOHTTP1
import Protos
import SystemPackage
import Testing

/// Runs the built program as process 1 of a PID namespace.
@Suite(.serialized, .timeLimit(.minutes(1))) struct InitProcessTests {
  private func program() throws -> String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    let own = String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let path = FilePath(own).removingLastComponent().appending("envd").string
    try #require(access(path, X_OK) == 0, "\(path) is not built; run the tests with `make test`")
    return path
  }

  /// A port that was free just now.
  private func freePort() throws -> Int {
    let socket = OwnedDescriptor(
      try SystemError.check("socket") {
        Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
      })
    _ = listen(socket.rawValue, 1)
    var name = [UInt8](repeating: 0, count: 16)
    var length = socklen_t(16)
    let result = name.withUnsafeMutableBytes { bytes in
      bytes.assumingMemoryBound(to: sockaddr.self).baseAddress.map { getsockname(socket.rawValue, $0, &length) }
    }
    try #require(result == 0)
    return Int(name[2]) << 8 | Int(name[3])
  }

  @Test("process 1 reaps the orphans of its children, and SIGTERM ends it and all processes")
  func orphans() async throws {
    let port = try freePort()
    let namespace = try ChildProcess.spawn(
      SpawnRequest(
        executable: "/usr/bin/unshare",
        arguments: ["--pid", "--mount", "--fork", "--mount-proc", "--kill-child", try program(), "--port", "\(port)"],
        environment: ["PATH": "/usr/bin:/bin"], descriptors: [0: 0, 1: 1, 2: 2]))
    let http = HTTPClient(eventLoopGroupProvider: .singleton)
    let outcome = await Task { try await exercise(http, port: port) }.result
    if case .failure = outcome { namespace.signal(SIGKILL) }
    let status = await namespace.wait()
    try await http.shutdown()
    try outcome.get()
    #expect(status == .exited(0))
  }

  private func exercise(_ http: HTTPClient, port: Int) async throws {
    let agent = RunningAgent.remote(port: port, http: http)
    try await eventually("the agent responds") {
      (try? await http.execute(HTTPClientRequest(url: "http://127.0.0.1:\(port)/health"), timeout: .seconds(1)))?.status
        == .noContent
    }
    for _ in 0..<20 {
      // The shell ends at once; its child becomes an orphan and ends later.
      let result = try await agent.run("/bin/sh", ["-c", "(sleep 0.05; exit 3) >/dev/null 2>&1 & exit 2"])
      #expect(result.end?.exitCode == 2)
    }
    try await eventually("no zombie is left") {
      let list = try await agent.run("/bin/sh", ["-c", "cat /proc/[0-9]*/stat | grep -c ') Z '"])
      return list.text == "0\n"
    }
    _ = try await agent.start("/bin/sleep", ["300"])
    _ = try? await agent.run("/bin/kill", ["-TERM", "1"])
  }
}
