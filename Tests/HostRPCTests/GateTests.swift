import AsyncHTTPClient
import Concurrency
import Foundation
import HostAPI
import HostRPC
import Model
import NIOCore
import NIOHTTP1
import NIOPosix
import TestSupport
import Testing

@Suite struct GateTests {
  private let host = SimulatedHost()

  private func request(
    _ served: ServedHost, _ method: HTTPMethod = .POST, _ target: String = "/martlet.host.v1.HostService/ListSandboxes",
    signedFor signedTarget: String? = nil, signature: CallSignature? = nil, _ secret: HostSecret? = nil
  ) async throws -> HTTPClientResponse {
    let signature =
      signature ?? CallSignature(method.rawValue, signedTarget ?? target, at: Date(), with: secret ?? served.secret)
    var request = HTTPClientRequest(url: "http://\(served.address)\(target)")
    request.method = method
    request.headers = [
      "content-type": "application/proto", CallSignature.timeHeader: signature.time,
      CallSignature.nonceHeader: signature.nonce,
      CallSignature.macHeader: signature.mac,
    ]
    return try await ServedHost.httpClient.execute(request, timeout: .seconds(20))
  }

  @Test("a signed call gets a signed response; a replay of the call is refused")
  func replay() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      let target = "/martlet.host.v1.HostService/ListSandboxes"
      let signature = CallSignature("POST", target, at: Date(), with: served.secret)
      let first = try await request(served, signature: signature)
      let mac = first.headers.first(name: CallSignature.responseHeader)
      #expect(first.status == .ok && signature.isValidResponse(status: 200, mac: mac, with: served.secret))
      let second = try await request(served, signature: signature)
      #expect(second.status == .unauthorized && second.headers.first(name: CallSignature.responseHeader) == nil)
      #expect(await host.calls[.list] == 1)
    }
  }

  @Test(
    "a call with a missing, wrong, foreign or outdated signature is refused on every path"
  )
  func refusals() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      for target in [
        "/martlet.host.v1.HostService/ListSandboxes", "/files?request=", "/", "/martlet.host.v1.HostService/Nonsense",
      ] {
        let responses = [
          try await request(served, .POST, target, signedFor: "/elsewhere"),
          try await request(served, .POST, target, .random()),
          try await request(
            served, .POST, target, signature: CallSignature("POST", target, at: Date() - 31, with: served.secret)),
          try await request(served, .POST, target, signature: CallSignature(time: "", nonce: "", mac: "")),
        ]
        #expect(responses.allSatisfy { $0.status == .unauthorized })
      }
      #expect(await host.calls.isEmpty)
      // An authenticated caller learns which routes exist.
      #expect(try await request(served, .POST, "/").status == .notFound)
      #expect(try await request(served, .POST, "/martlet.host.v1.HostService/Nonsense").status == .notFound)
    }
  }

  @Test("a refused upload gets its response before its body is sent")
  func earlyRefusal() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      let sent = Mutex(0)
      let body = AsyncThrowingStream<ByteBuffer, any Error> {
        sent.withLock { $0 += 1 }
        if sent.withLock({ $0 > 1 }) { try await Task.sleep(for: .seconds(30)) }
        return ByteBuffer(repeating: 1, count: 1_000)
      }
      var request = HTTPClientRequest(url: "http://\(served.address)/files?request=x")
      request.method = .PUT
      request.body = .stream(body, length: .unknown)
      let response = try await ServedHost.httpClient.execute(request, timeout: .seconds(10))
      #expect(response.status == .unauthorized)
      #expect(sent.withLock { $0 } <= 2)
    }
  }

  @Test("a response without a valid signature is rejected, whatever its status and body")
  func impostor() async throws {
    try await ServedHost.run(host) { served async throws -> Void in
      let impostor = HostRPC(
        hostID: host.hostID, address: served.address, secret: .random(), httpClient: ServedHost.httpClient)
      #expect(await code { _ = try await impostor.listSandboxes() } == .hostUnavailable)
      #expect(await code { _ = try await impostor.createSandbox(SandboxSpec(teamID: TeamID())) } == .hostUnavailable)
      #expect(await code { _ = try await impostor.readFile("/x", user: nil, in: SandboxID()) } == .hostUnavailable)
      let body = AsyncThrowingStream<ByteBuffer, any Error> { nil }
      #expect(
        await code { try await impostor.writeFile("/x", user: nil, body: body, in: SandboxID()) } == .hostUnavailable)
    }
    // A signature check that accepts everything.
    try await FixedAnswer.run("HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 0\r\n\r\n") {
      port async throws -> Void in
      let client = HostRPC(
        hostID: HostID(), address: "127.0.0.1:\(port)", secret: .random(), httpClient: ServedHost.httpClient)
      #expect(await code { _ = try await client.listSandboxes() } == .hostUnavailable)
      #expect(await code { try await client.pingSandbox(SandboxID()) } == .hostUnavailable)
    }
  }

  @Test(
    "a host that is unreachable, closes the connection or sends garbage is host_unavailable at once",
    arguments: ["", "nonsense\r\n\r\n"])
  func dead(answer: String) async throws {
    try await FixedAnswer.run(answer) { port async throws -> Void in
      let client = HostRPC(
        hostID: HostID(), address: "127.0.0.1:\(port)", secret: .random(), httpClient: ServedHost.httpClient)
      #expect(await code { _ = try await client.listSandboxes() } == .hostUnavailable)
      #expect(await code { try await client.destroySandbox(SandboxID()) } == .hostUnavailable)
      #expect(
        await code { _ = try await client.startProcess(ProcessRequest(command: "x"), in: SandboxID()) }
          == .hostUnavailable)
    }
    let unreachable = try await ServedHost.run(host) { $0.client }
    #expect(await code { _ = try await unreachable.listSandboxes() } == .hostUnavailable)
    #expect(await code { _ = try await unreachable.createSandbox(SandboxSpec(teamID: TeamID())) } == .hostUnavailable)
    #expect(await code { _ = try await unreachable.readFile("/x", user: nil, in: SandboxID()) } == .hostUnavailable)
    let body = AsyncThrowingStream<ByteBuffer, any Error> { nil }
    #expect(
      await code { try await unreachable.writeFile("/x", user: nil, body: body, in: SandboxID()) } == .hostUnavailable)
  }

  @Test("a call to a host that stops sending events fails")
  func silent() async throws {
    var limits = HostRPCLimits()
    limits.streamIdle = .milliseconds(300)
    limits.unary = .milliseconds(300)
    // Accepts connections and sends nothing.
    try await FixedAnswer.run(nil) { port async throws -> Void in
      let client = HostRPC(
        hostID: HostID(), address: "127.0.0.1:\(port)", secret: .random(), httpClient: ServedHost.httpClient,
        limits: limits)
      #expect(await code { _ = try await client.pauseSandbox(SandboxID()) } == .hostUnavailable)
      #expect(await code { _ = try await client.listTemplates(nil) } == .hostUnavailable)
    }
  }
}

/// A server that sends the same response to every request.
enum FixedAnswer {
  /// - Parameter answer: nil sends nothing and keeps the connection open; "" closes it at once.
  static func run(_ answer: String?, _ body: (Int) async throws -> Void) async throws {
    let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Handler(answer)) }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    do {
      try await body(server.localAddress?.port ?? 0)
    } catch {
      try? await server.close().get()
      throw error
    }
    try await server.close().get()
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let answer: String?

    init(_ answer: String?) {
      self.answer = answer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard let answer else { return }
      guard !answer.isEmpty else { return context.close(promise: nil) }
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
    }
  }
}

/// The code of the `MartletError` that `work` throws.
func code(_ work: () async throws -> Void) async -> ErrorCode? {
  do {
    try await work()
    return nil
  } catch {
    return (error as? MartletError)?.code
  }
}

/// Waits until `condition` holds, for at most twenty seconds.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
  for _ in 0..<4_000 {
    if try await condition() { return true }
    try await Task.sleep(for: .milliseconds(5))
  }
  return false
}
