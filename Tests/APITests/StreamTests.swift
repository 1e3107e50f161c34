import Foundation
import HostAPI
import Model
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

/// A WebSocket client that can violate the protocol.
struct StreamClient {
  let raw: RawClient

  static func open(_ server: LiveServer, _ path: String, headers: String = "") async throws -> (StreamClient, String) {
    let raw = try await server.clients.connect(server.port)
    try await raw.send(
      "GET \(path) HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(server.key)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\(headers)\r\n"
    )
    let head = try await raw.readHead()
    return (StreamClient(raw: raw), head)
  }

  func send(_ json: String) async throws { try await raw.send(FrameBytes.bytes(1, Array(json.utf8))) }
  func send(_ bytes: [UInt8]) async throws { try await raw.send(FrameBytes.bytes(2, bytes)) }

  /// Reads the next text message as JSON.
  func json() async throws -> [String: Any] {
    guard let frame = try await raw.readFrame(), frame.opcode == 1 else { return [:] }
    return ((try? JSONSerialization.jsonObject(with: Data(frame.payload))) as? [String: Any]) ?? [:]
  }

  /// Skips to the next close frame and returns its code; nil if the connection ends without one.
  func closeCode() async throws -> Int? {
    while let frame = try await raw.readFrame() {
      guard frame.opcode == 8 else { continue }
      return frame.payload.count >= 2 ? Int(frame.payload[0]) << 8 | Int(frame.payload[1]) : 1005
    }
    return nil
  }
}

@Suite(.serialized) struct StreamTests {
  private func open(_ server: LiveServer, _ suffix: String = "exec/stream") async throws -> (StreamClient, SandboxID) {
    let id = try await server.create()
    let (client, head) = try await StreamClient.open(server, "/v1/sandboxes/\(id)/\(suffix)")
    #expect(head.hasPrefix("HTTP/1.1 101"))
    #expect(head.lowercased().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="))
    return (client, try #require(SandboxID(wire: id)))
  }

  private func process(_ server: LiveServer, _ id: SandboxID) async throws -> SimulatedProcess {
    #expect(try await eventually { await server.host.processes[id]?.isEmpty == false })
    return try #require(await server.host.processes[id]?.last)
  }

  @Test("a command runs: start, output, exit, close")
  func run() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"echo","args":["hi"]}"#)
      let start = try await client.json()
      #expect(start["type"] as? String == "start")
      #expect(start["pid"] is Int)
      let output = try await client.json()
      #expect(output["type"] as? String == "stdout")
      #expect(output["data"] as? String == Data("hi\n".utf8).base64EncodedString())
      let exit = try await client.json()
      #expect(exit["type"] as? String == "exit")
      #expect(exit["exit_code"] as? Int == 0)
      #expect(try await client.closeCode() == 1000)
    }
  }

  @Test("all 256 byte values pass through standard input and output unchanged, in binary frames")
  func binary() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"cat","stdin":true,"binary":true}"#)
      _ = try await client.json()
      let bytes = Array(UInt8.min...UInt8.max)
      try await client.send(bytes)
      let frame = try #require(try await client.raw.readFrame())
      #expect(frame.opcode == 2)
      #expect(frame.payload == [1] + bytes)
      try await client.send(#"{"type":"stdin","data":"/w=="}"#)
      #expect(try await client.raw.readFrame()?.payload == [1, 255])
      try await client.send(#"{"type":"stdin","eof":true}"#)
      #expect(try await client.json()["exit_code"] as? Int == 0)
    }
  }

  @Test("signals are forwarded by name and by number, and the exit reports them")
  func signals() async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"sleep"}"#)
      _ = try await client.json()
      try await client.send(#"{"type":"signal","signal":"SIGUSR1"}"#)
      try await client.send(#"{"type":"signal","signal":15}"#)
      let exit = try await client.json()
      #expect(exit["exit_code"] as? Int == 143)
      #expect(exit["signal"] as? Int == 15)
      #expect(try await process(server, id).signals == [10, 15])
    }
  }

  @Test("stop ends the process", arguments: [#"{"type":"stop"}"#])
  func stop(message: String) async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"sleep"}"#)
      _ = try await client.json()
      try await client.send(message)
      let process = try await process(server, id)
      #expect(try await eventually { !process.isAlive })
      #expect(try await client.closeCode() == 1000)
    }
  }

  @Test("a client that disconnects while the process is silent kills it")
  func vanish() async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"sleep"}"#)
      let process = try await process(server, id)
      await client.raw.close()
      #expect(try await eventually { !process.isAlive })
    }
  }

  @Test("a client that disconnects while its input is blocked kills the process")
  func vanishWhileStuck() async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"deaf","stdin":true}"#)
      let process = try await process(server, id)
      for _ in 0..<40 { try await client.send([UInt8](repeating: 1, count: 10_000)) }
      await client.raw.close()
      #expect(try await eventually { !process.isAlive })
    }
  }

  @Test("a detached process continues and can be attached to again")
  func detached() async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"cat","stdin":true,"detached":true,"tag":"t"}"#)
      let process = try await process(server, id)
      _ = try await client.json()
      await client.raw.close()
      try await Task.sleep(for: .milliseconds(200))
      #expect(process.isAlive)
      let (again, head) = try await StreamClient.open(server, "/v1/sandboxes/\(id.wire)/processes/t/stream?binary=true")
      #expect(head.hasPrefix("HTTP/1.1 101"))
      #expect(try await again.json()["pid"] as? Int == Int(process.pid))
      try await again.send([7])
      #expect(try await again.raw.readFrame()?.payload == [1, 7])
      await again.raw.close()
      try await Task.sleep(for: .milliseconds(100))
      #expect(process.isAlive)
    }
  }

  @Test("attaching to a process that does not exist is an error message")
  func attachMissing() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await open(server, "processes/4242/stream")
      let error = try await client.json()
      #expect(error["type"] as? String == "error")
      #expect(error["code"] as? String == "not_found")
    }
  }

  @Test("a resize, signal or kill that fails is reported to the client, and the stream goes on")
  func controlFailures() async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server, "pty")
      try await client.send(#"{"type":"start","cols":100,"rows":30}"#)
      _ = try await client.json()
      let process = try await process(server, id)
      process.failControl(MartletError(.agentError, "the guest does not answer"))
      for (request, message) in [
        ("resize", #"{"type":"resize","cols":120,"rows":40}"#), ("signal", #"{"type":"signal","signal":"SIGINT"}"#),
        ("kill", #"{"type":"kill"}"#),
      ] {
        try await client.send(message)
        let report = try await client.json()
        #expect(report["type"] as? String == "control_error")
        #expect(report["request"] as? String == request)
        #expect(report["code"] as? String == "agent_error")
        #expect(report["message"] as? String == "the guest does not answer")
      }
      // A process that has ended meanwhile is no failure.
      process.failControl(MartletError(.notFound, "the process has ended"))
      try await client.send(#"{"type":"kill"}"#)
      try await client.send(#"{"type":"input","data":"aGk="}"#)
      #expect(try await client.json()["data"] as? String == "aGk=")
      process.failControl(nil)
      try await client.send(#"{"type":"kill"}"#)
      #expect(try await client.json()["exit_code"] as? Int == 137)
    }
  }

  @Test("a terminal starts, echoes, resizes and ends")
  func terminal() async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server, "pty")
      try await client.send(#"{"type":"start","cols":100,"rows":30,"tag":"term"}"#)
      let started = try await client.json()
      #expect(started["type"] as? String == "started")
      #expect(started["tag"] as? String == "term")
      let process = try await process(server, id)
      #expect(process.request.terminal == TerminalSize(columns: 100, rows: 30))
      #expect(process.request.environment["TERM"] == "xterm-256color")
      try await client.send(#"{"type":"input","data":"aGk="}"#)
      let output = try await client.json()
      #expect(output["type"] as? String == "output")
      #expect(output["data"] as? String == "aGk=")
      try await client.send(#"{"type":"resize","cols":120,"rows":40}"#)
      #expect(try await eventually { process.sizes == [TerminalSize(columns: 120, rows: 40)] })
      try await client.send(#"{"type":"kill"}"#)
      #expect(try await client.json()["exit_code"] as? Int == 137)
    }
  }

  @Test(
    "invalid first messages get an error and start nothing",
    arguments: [
      "", "{", "[]", "{}", #"{"type":"stdin"}"#, #"{"type":"start"}"#, #"{"type":"start","cmd":""}"#,
      #"{"type":"start","cmd":"x","pty":{"cols":0,"rows":1}}"#, #"{"type":"start","cmd":"x","comand":"y"}"#,
      #"{"type":"start","cmd":"x","cwd":"a\u0000"}"#,
    ])
  func badStart(message: String) async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server)
      try await client.send(message)
      let error = try await client.json()
      #expect(error["type"] as? String == "error")
      #expect(error["code"] as? String == "invalid_request")
      #expect(await server.host.processes[id] == nil)
    }
  }

  @Test(
    "an invalid later message is an error and kills the process",
    arguments: ["{", #"{"type":"dance"}"#, #"{"type":"signal","signal":"X"}"#, #"{"type":"stdin","data":"?"}"#])
  func badMessage(message: String) async throws {
    try await withServer { server async throws -> Void in
      let (client, id) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"sleep","stdin":true}"#)
      _ = try await client.json()
      try await client.send(message)
      #expect(try await client.json()["code"] as? String == "invalid_request")
      let process = try await process(server, id)
      #expect(try await eventually { !process.isAlive })
    }
  }

  @Test("a process whose stream breaks is an error, not an exit")
  func brokenStream() async throws {
    try await withServer { server async throws -> Void in
      let (client, _) = try await open(server)
      try await client.send(#"{"type":"start","cmd":"break"}"#)
      _ = try await client.json()
      var last = try await client.json()
      if last["type"] as? String == "stdout" { last = try await client.json() }
      #expect(last["type"] as? String == "error")
    }
  }
}
