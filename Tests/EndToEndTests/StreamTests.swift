import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import Testing

extension EndToEnd {
  @Suite struct StreamTests {
    private static let sleeper = "12345"

    private func sleeps(_ server: MartletServer, _ id: String) async throws -> Bool {
      try await server.shell(id, "ps | grep 'sleep \(Self.sleeper)' | grep -v grep | wc -l").trimmingCharacters(
        in: .newlines) != "0"
    }

    /// Starts `martlet exec … sleep` as a separate process, so that it can be killed.
    private func startSleeper(_ server: MartletServer, _ id: String) async throws -> ChildProcess {
      let null = try OwnedDescriptor.open("/dev/null", O_RDWR)
      let client = try ChildProcess.spawn(
        SpawnRequest(
          executable: MartletServer.binary, arguments: ["exec", id, "--", "sleep", Self.sleeper],
          environment: server.clientEnvironment,
          descriptors: [0: null.rawValue, 1: null.rawValue, 2: null.rawValue]))
      try await eventually("the command runs") { try await sleeps(server, id) }
      return client
    }

    @Test("killing a client kills its command")
    func disconnect() async throws {
      try await withSandbox { server, id in
        let client = try await startSleeper(server, id)
        client.signal(SIGKILL)
        _ = await client.wait()
        try await eventually("the command has ended") { try await !sleeps(server, id) }
      }
    }

    @Test("a signal to the client reaches the command")
    func signal() async throws {
      try await withSandbox { server, id in
        let client = try await startSleeper(server, id)
        client.signal(SIGTERM)
        #expect(await client.wait() == .exited(128 + SIGTERM))
        try await eventually("the command has ended") { try await !sleeps(server, id) }
      }
    }

    @Test("a detached command continues, is listed, and can be attached to again")
    func detached() async throws {
      try await withSandbox { server, id in
        try await server.cli(
          "exec", "--detach", "--tag", "ticker", id, "--", "sh", "-c",
          "while [ ! -e /tmp/stop ]; do echo tick; sleep 0.2; done; echo over; exit 3"
        ).expectSuccess()
        let list = try await server.request(.GET, "/v1/sandboxes/\(id)/processes")
        #expect(list.text.contains("ticker"))
        async let attached = server.request(.GET, "/v1/sandboxes/\(id)/processes")
        _ = try await attached
        let reader = try WebSocketPeer(server, path: "/v1/sandboxes/\(id)/processes/ticker/stream")
        try await reader.await("tick")
        _ = try await server.shell(id, "touch /tmp/stop")
        try await reader.await(#""exit_code":3"#)
        await reader.end()
      }
    }

    @Test("output larger than any buffer arrives completely and in order")
    func largeOutput() async throws {
      try await withSandbox { server, id in
        let output = try await server.cli("exec", id, "--", "sh", "-c", "seq 1 400000")
        try output.expectSuccess()
        let lines = output.outputText.split(separator: "\n")
        #expect(lines.count == 400_000)
        #expect(lines.last == "400000")
      }
    }

    @Test("a command that exceeds its time-out has the documented exit code")
    func timeout() async throws {
      try await withSandbox { server, id in
        let response = try await server.request(
          .POST, "/v1/sandboxes/\(id)/exec", body: #"{"cmd":"sleep","args":["100"],"timeout_sec":1}"#)
        #expect(response.status == 504)
        #expect(response.errorCode == "deadline_exceeded")
      }
    }
  }
}

/// A WebSocket client that only receives, written with Python's standard library. Source: RFC 6455
final class WebSocketPeer: Sendable {
  private let child: ChildProcess
  private let path: String

  init(_ server: MartletServer, path: String) throws {
    self.path = server.directory.appending("peer-\(UUID().uuidString)").string
    let output = try OwnedDescriptor.open(self.path, O_RDWR | O_CREAT, mode: 0o600)
    let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    let script = """
      import base64, os, socket, sys
      s = socket.create_connection(("127.0.0.1", \(server.port)))
      key = base64.b64encode(os.urandom(16)).decode()
      s.sendall(("GET \(path) HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                 "X-API-Key: \(try server.apiKey)\\r\\n"
        "Sec-WebSocket-Key: " + key + "\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n").encode())
      f = s.makefile("rb")
      print(f.readline().decode(), flush=True)
      while f.readline().strip(): pass
      while True:
          head = f.read(2)
          if len(head) < 2: break
          n = head[1] & 127
          if n == 126: n = int.from_bytes(f.read(2), "big")
          elif n == 127: n = int.from_bytes(f.read(8), "big")
          body = f.read(n)
          if head[0] & 15 == 8: break
          text = body.decode(errors="replace")
          import json
          try:
              m = json.loads(text)
              if "data" in m: text += " " + base64.b64decode(m["data"]).decode(errors="replace")
          except ValueError: pass
          print(text, flush=True)
      """
    guard let python = Tool.find("python3") else { throw TestFailure("python3 is not installed; run make test") }
    child = try ChildProcess.spawn(
      SpawnRequest(
        executable: python, arguments: ["-c", script], environment: ["PATH": "/usr/bin:/bin"],
        descriptors: [0: null.rawValue, 1: output.rawValue, 2: output.rawValue]))
  }

  /// Waits until `text` was received.
  func await(_ text: String) async throws {
    try await eventually("received \(text); so far: \(received.suffix(500))") { self.received.contains(text) }
  }

  var received: String { (try? SmallFile.readText(path)) ?? "" }

  func end() async {
    child.signal(SIGKILL)
    _ = await child.wait()
  }
}
