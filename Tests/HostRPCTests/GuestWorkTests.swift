import Concurrency
import Foundation
import HostAPI
import HostRPC
import Model
import NIOCore
import TestSupport
import Testing

/// Processes and files of a sandbox on a host in another process.
@Suite struct GuestWorkTests {
  private let host = SimulatedHost()
  private let id = SandboxID()

  private func serving(_ body: @Sendable (ServedHost) async throws -> Void) async throws {
    await host.set(id, status: .running)
    try await ServedHost.run(host, body)
  }

  private func collect(_ session: any ProcessSession) async throws -> [ProcessEvent] {
    var events: [ProcessEvent] = []
    for try await event in session.events { events.append(event) }
    return events
  }

  private func process(_ tag: String) async -> SimulatedProcess? { await host.process(.tag(tag), in: id) }

  @Test("all 256 byte values arrive unchanged, between a start and an exit event")
  func bytes() async throws {
    try await serving { served async throws -> Void in
      let session = try await served.client.startProcess(ProcessRequest(command: "bytes"), in: id)
      let events = try await collect(session)
      #expect(events.first == .started(pid: session.pid) && events.last == .exited(ProcessExit(exitCode: 0)))
      var output = ByteBuffer()
      for case .output(.standardOutput, let bytes) in events { output.writeImmutableBuffer(bytes) }
      #expect(output == ByteBuffer(bytes: Array(UInt8.min...UInt8.max)))
      await session.detach(killing: false)
    }
  }

  @Test("input, end of input, terminal sizes and signals reach the process")
  func conversation() async throws {
    try await serving { served async throws -> Void in
      let request = ProcessRequest(command: "cat", hasStandardInput: true, tag: "cat")
      let session = try await served.client.startProcess(request, in: id)
      let all = ByteBuffer(bytes: (0..<600_000).map { UInt8(truncatingIfNeeded: $0 &* 7) })
      async let events = collect(session)
      try await session.write(all)
      try await session.resize(TerminalSize(columns: 100, rows: 40))
      try await session.closeStandardInput()
      var output = ByteBuffer()
      for case .output(_, let bytes) in try await events { output.writeImmutableBuffer(bytes) }
      #expect(output == all)
      #expect(await process("cat")?.sizes == [TerminalSize(columns: 100, rows: 40)])
      let sleeper = try await served.client.startProcess(ProcessRequest(command: "sleep", tag: "s"), in: id)
      try await sleeper.signal(15)
      #expect(try await collect(sleeper).last == .exited(ProcessExit(exitCode: 143, signal: 15)))
      #expect(await code { try await sleeper.write(ByteBuffer(string: "x")) } == .notFound)
    }
  }

  @Test("a stream that fails on the host throws in the client, and does not end normally")
  func broken() async throws {
    try await serving { served async throws -> Void in
      let session = try await served.client.startProcess(ProcessRequest(command: "break"), in: id)
      await #expect(throws: MartletError.self) { try await collect(session) }
      #expect(
        await code { _ = try await served.client.startProcess(ProcessRequest(command: "x"), in: SandboxID()) }
          == .notFound)
      #expect(await code { _ = try await served.client.attachProcess(.tag("none"), in: id) } == .notFound)
    }
  }

  @Test(
    "detaching with killing kills the process, detaching without it does not", arguments: [true, false])
  func detached(kills: Bool) async throws {
    try await serving { served async throws -> Void in
      for command in ["sleep", "flood"] {
        let session = try await served.client.startProcess(ProcessRequest(command: command, tag: command), in: id)
        await session.detach(killing: kills)
        #expect(await process(command)?.isAlive == !kills)
      }
      guard !kills else { return }
      let attached = try await served.client.attachProcess(.tag("sleep"), in: id)
      #expect(attached.pid == (await process("sleep"))?.pid)
      await attached.detach(killing: false)
      #expect(await process("sleep")?.isAlive == true)
      try await served.client.signalProcess(.tag("sleep"), signal: 9, in: id)
      #expect(try await served.client.listProcesses(in: id).map(\.tag) == ["flood"])
    }
  }

  @Test("losing the stream kills a started process, and not one that was attached to")
  func lost() async throws {
    try await serving { served async throws -> Void in
      for command in ["sleep", "flood"] {
        var session: (any ProcessSession)? = try await served.client.startProcess(
          ProcessRequest(command: command, tag: command), in: id)
        #expect(await process(command)?.isAlive == true)
        #expect(session != nil)
        session = nil
        #expect(try await eventually { await process(command)?.isAlive == false })
      }
      let keeper = try await served.client.startProcess(ProcessRequest(command: "sleep", tag: "kept"), in: id)
      var attached: (any ProcessSession)? = try await served.client.attachProcess(.tag("kept"), in: id)
      #expect(attached != nil)
      attached = nil
      try await keeper.signal(10)
      #expect(await process("kept")?.isAlive == true)
      await keeper.detach(killing: true)
    }
  }

  @Test("a cancelled start leaves no process")
  func cancelled() async throws {
    try await serving { served async throws -> Void in
      await host.delay(.start, by: .milliseconds(100))
      let start = Task { try await served.client.startProcess(ProcessRequest(command: "sleep", tag: "c"), in: id) }
      #expect(try await eventually { await host.calls[.start] != nil })
      start.cancel()
      await #expect(throws: (any Error).self) { try await start.value }
      #expect(try await eventually { (await process("c"))?.isAlive != true })
    }
  }

  @Test("a slow reader slows the process down")
  func slowReader() async throws {
    try await serving { served async throws -> Void in
      let session = try await served.client.startProcess(ProcessRequest(command: "flood", tag: "f"), in: id)
      var received = 0
      for try await event in session.events {
        guard case .output(_, let bytes) = event else { continue }
        received += bytes.readableBytes
        if received > 8 << 20 { break }
      }
      await session.detach(killing: true)
      #expect(await process("f")?.isAlive == false)
    }
  }

  @Test("directory entries are listed, queried, created, renamed and removed")
  func names() async throws {
    try await serving { served async throws -> Void in
      let client = served.client
      await host.put("/a/b", ByteBuffer(string: "x"), in: id)
      #expect(
        try await client.listDirectory("/a", depth: 1, user: "u", in: id)
          == host.listDirectory("/a", depth: 1, user: nil, in: id))
      #expect(try await client.fileStatus("/a/b", user: nil, in: id).sizeBytes == 1)
      #expect(try await client.makeDirectory("/d", user: nil, in: id).kind == .directory)
      #expect(try await client.renameFile(from: "/a/b", to: "/a/c", user: nil, in: id).path == "/a/c")
      try await client.removeFile("/a/c", user: nil, in: id)
      #expect(await code { _ = try await client.fileStatus("/a/c", user: nil, in: id) } == .notFound)
    }
  }
}
