import AsyncHTTPClient
import Foundation
import Model
import NIOCore
import NIOHTTP1
import NIOPosix

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
