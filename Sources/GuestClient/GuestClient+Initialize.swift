import AsyncHTTPClient
import Foundation
import Glibc
import Model
import NIOCore
import NIOHTTP1
import NIOPosix

/// Everything that a guest must know about itself before user code runs.
package struct GuestInitialization: Sendable, Equatable {
  /// Environment of every user process.
  package var environment: [String: String]
  /// The secret that the agent demands from now on. Later calls need a client with this token.
  package var accessToken: String?
  package var defaultUser: String?
  package var defaultWorkingDirectory: String?
  package var hostname: String?
  package var sandboxID: String?
  package var templateID: String?
  /// Mixed into the kernel's random state. 32 bytes or more, new for every start and resume.
  package var entropy: [UInt8]

  package init(
    environment: [String: String] = [:], accessToken: String? = nil, defaultUser: String? = nil,
    defaultWorkingDirectory: String? = nil, hostname: String? = nil, sandboxID: String? = nil,
    templateID: String? = nil,
    entropy: [UInt8] = []
  ) {
    self.environment = environment
    self.accessToken = accessToken
    self.defaultUser = defaultUser
    self.defaultWorkingDirectory = defaultWorkingDirectory
    self.hostname = hostname
    self.sandboxID = sandboxID
    self.templateID = templateID
    self.entropy = entropy
  }
}

extension GuestClient {
  /// Initializes a booted guest: sets identity and wall clock and thaws the user processes.
  package func initialize(_ initialization: GuestInitialization) async throws {
    try await postInit(try Self.body(initialization, newLife: false))
  }

  private func postInit(_ body: ByteBuffer) async throws {
    var request = plainRequest(.POST, "/init")
    request.headers.replaceOrAdd(name: "content-type", value: "application/json")
    request.body = .bytes(body)
    _ = try await perform(request, within: limits.call, .control)
  }

  /// Encodes the request body. Reads the wall clock, so call it right before sending.
  static func body(_ initialization: GuestInitialization, newLife: Bool) throws -> ByteBuffer {
    let body = Body(initialization, timestamp: wallClock(), newLife: newLife ? true : nil)
    return ByteBuffer(bytes: try JSONEncoder().encode(body))
  }

  /// Writes dirty data back and freezes all user processes. Returns when they are frozen.
  package func freeze() async throws {
    _ = try await perform(plainRequest(.POST, "/freeze"), within: limits.call, .control)
  }

  /// Sets the wall clock, which stood still while the guest was stopped, and thaws the user processes. Idempotent.
  package func thaw() async throws {
    // Fields that the request does not name keep their values.
    try await postInit(ByteBuffer(bytes: try JSONEncoder().encode(["timestamp": Self.wallClock()])))
  }

  /// The wall clock as RFC 3339 with nanoseconds.
  static func wallClock() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return rfc3339(seconds: Int64(now.tv_sec), nanoseconds: Int64(now.tv_nsec))
  }

  static func rfc3339(seconds: Int64, nanoseconds: Int64) -> String {
    let second = Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
    let digits = String(nanoseconds)
    return "\(second.dropLast()).\(String(repeating: "0", count: max(0, 9 - digits.count)))\(digits)Z"
  }

  /// The JSON of `POST /init`. Source: E2B's envd contract; host name, ids and entropy are our additions.
  private struct Body: Encodable {
    let envVars: [String: String]
    let accessToken: String?
    let timestamp: String
    let defaultUser: String?
    let defaultWorkdir: String?
    let hostname: String?
    let sandboxID: String?
    let templateID: String?
    /// Base64.
    let entropy: Data?
    let newLife: Bool?

    init(_ initialization: GuestInitialization, timestamp: String, newLife: Bool?) {
      self.newLife = newLife
      envVars = initialization.environment
      accessToken = initialization.accessToken
      self.timestamp = timestamp
      defaultUser = initialization.defaultUser
      defaultWorkdir = initialization.defaultWorkingDirectory
      hostname = initialization.hostname
      sandboxID = initialization.sandboxID
      templateID = initialization.templateID
      entropy = initialization.entropy.isEmpty ? nil : Data(initialization.entropy)
    }
  }
}

extension GuestClient {
  /// Time limit of the first connection attempt. The interface of a restored guest is up, but under emulation its first
  /// response takes long, and a second attempt would only add work.
  private static let firstConnect: TimeAmount = .milliseconds(80)

  /// Initializes a restored guest, right after its vCPUs continue: sets identity, wall clock and entropy, ends the
  /// streams of earlier clients, and thaws the user processes.
  ///
  /// Uses one connection and one request, because every piece of guest code that runs for the first time after a
  /// restore costs time. The request carries this client's token, which must be the one that the guest was saved with.
  /// Later calls need the new token.
  /// - Throws: `agent_error` if the guest has not responded by `deadline` or could not apply everything; its processes
  ///   are frozen then.
  package func initialize(_ initialization: GuestInitialization, deadline: ContinuousClock.Instant) async throws {
    var policy = HealthPolicy(connect: Self.firstConnect)
    while true {
      let failure: any Error
      do {
        return try await initializeOnce(initialization, within: policy.connect, deadline: deadline)
      } catch let error as MartletError {
        throw error
      } catch {
        if case ChannelError.connectTimeout? = error as? ChannelError { policy.timedOut() }
        failure = error
      }
      guard !Task.isCancelled else { throw MartletError(.canceled, "the request was canceled") }
      guard .now + HealthPolicy.pause < deadline else { throw GuestErrors.unreachable(cause: failure) }
      try? await Task.sleep(for: HealthPolicy.pause)
    }
  }

  /// - Throws: `MartletError` for an error response of the guest, any other error if there was no response.
  private func initializeOnce(
    _ initialization: GuestInitialization, within limit: TimeAmount, deadline: ContinuousClock.Instant
  ) async throws {
    let connection = try await SingleExchange.connect(
      group: httpClient.eventLoopGroup, host: address, port: port, within: limit,
      maximumResponseBytes: limits.plainResponseBytes)
    defer { connection.close() }
    var headers = headers()
    headers.add(name: "host", value: "\(address):\(port)")
    headers.add(name: "content-type", value: "application/json")
    headers.add(name: "connection", value: "close")
    let response = try await connection.post(
      "/init", headers, try Self.body(initialization, newLife: true),
      within: min(limits.call, max(.milliseconds(1), deadline - .now)))
    guard (200..<300).contains(response.head.status.code) else {
      throw Self.refusal(response.head.status, response.body ?? ByteBuffer(), .control)
    }
  }
}

/// One HTTP request on its own connection.
private struct SingleExchange: Sendable {
  private let channel: any Channel
  private let response: EventLoopPromise<NIOHTTPClientResponseFull>

  static func connect(
    group: any EventLoopGroup, host: String, port: Int, within limit: TimeAmount, maximumResponseBytes: Int
  ) async throws -> SingleExchange {
    let eventLoop = group.next()
    let response = eventLoop.makePromise(of: NIOHTTPClientResponseFull.self)
    let bootstrap = ClientBootstrap(group: eventLoop).connectTimeout(limit).channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHTTPClientHandlers()
        try pipeline.addHandler(NIOHTTPClientResponseAggregator(maxContentLength: maximumResponseBytes))
        try pipeline.addHandler(ResponseHandler(response))
      }
    }
    do {
      return SingleExchange(channel: try await bootstrap.connect(host: host, port: port).get(), response: response)
    } catch {
      response.fail(error)
      throw error
    }
  }

  func close() {
    channel.close(promise: nil)
  }

  func post(
    _ path: String, _ headers: HTTPHeaders, _ body: ByteBuffer, within limit: Duration
  ) async throws -> NIOHTTPClientResponseFull {
    var headers = headers
    headers.add(name: "content-length", value: "\(body.readableBytes)")
    let head = HTTPRequestHead(version: .http1_1, method: .POST, uri: path, headers: headers)
    channel.write(HTTPClientRequestPart.head(head), promise: nil)
    channel.write(HTTPClientRequestPart.body(.byteBuffer(body)), promise: nil)
    channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
    let channel = channel
    // Closing the channel makes `ResponseHandler` fail the promise.
    let timer = channel.eventLoop.scheduleTask(in: TimeAmount(limit)) { () -> Void in channel.close(promise: nil) }
    defer { timer.cancel() }
    return try await withTaskCancellationHandler {
      try await response.futureResult.get()
    } onCancel: {
      channel.close(promise: nil)
    }
  }
}

private final class ResponseHandler: ChannelInboundHandler, Sendable {
  typealias InboundIn = NIOHTTPClientResponseFull

  private let response: EventLoopPromise<NIOHTTPClientResponseFull>

  init(_ response: EventLoopPromise<NIOHTTPClientResponseFull>) {
    self.response = response
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    response.succeed(unwrapInboundIn(data))
  }

  func channelInactive(context: ChannelHandlerContext) {
    response.fail(ChannelError.eof)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    response.fail(error)
    context.close(promise: nil)
  }
}
