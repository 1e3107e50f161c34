import Concurrency
import Connect
import NIOCore

#if canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Runs one handler and cancels it when its deadline passes or its client disconnects.
///
/// The handler runs in its own unstructured task, because the connection's event loop must be able to cancel it. The
/// task inherits task-local values, and its result is always awaited.
final class CallScope: Sendable {
  enum Ending: Sendable {
    case deadlinePassed
    case clientDisconnected
  }

  enum Outcome<Value: Sendable>: Sendable {
    case finished(Result<Value, any Error>)
    /// The handler was cancelled before it finished. Its result is discarded.
    case ended(Ending)
  }

  private struct State {
    var cancel: (@Sendable () -> Void)?
    var ending: Ending?
    var isFinished = false
  }

  private let state = Mutex(State())

  /// Runs `handler`. Returns only after the handler has returned.
  static func run<Value: Sendable>(
    on channel: any Channel, until deadline: ContinuousClock.Instant?, watchingClient: Bool,
    _ handler: @escaping @Sendable () async throws -> Value
  ) async -> Outcome<Value> {
    let scope = CallScope()
    let timer = deadline.map { scope.startTimer(on: channel.eventLoop, deadline: $0) }
    let watch = watchingClient ? DisconnectWatch { scope.end(.clientDisconnected) } : nil
    await watch?.install(on: channel)
    let task = Task(operation: handler)
    scope.setCancel { task.cancel() }
    let result = await withTaskCancellationHandler {
      await task.result
    } onCancel: {
      task.cancel()
    }
    let ending = scope.finish()
    timer?.cancel()
    await watch?.remove(from: channel)
    return ending.map(Outcome.ended) ?? .finished(result)
  }

  private func startTimer(on eventLoop: any EventLoop, deadline: ContinuousClock.Instant) -> Scheduled<Void> {
    let left = max(.zero, deadline - .now)
    return eventLoop.scheduleTask(in: TimeAmount(left)) { self.end(.deadlinePassed) }
  }

  /// Cancels the handler. Only the first call has an effect, and none after the handler has returned.
  private func end(_ ending: Ending) {
    let cancel = state.withLock { state -> (@Sendable () -> Void)? in
      guard state.ending == nil, !state.isFinished else { return nil }
      state.ending = ending
      return state.cancel
    }
    cancel?()
  }

  private func setCancel(_ cancel: @escaping @Sendable () -> Void) {
    let isEnded = state.withLock { state in
      state.cancel = cancel
      return state.ending != nil
    }
    if isEnded { cancel() }
  }

  private func finish() -> Ending? {
    state.withLock { state in
      state.isFinished = true
      state.cancel = nil
      return state.ending
    }
  }
}

/// Calls back when the client of a connection has closed its side, even while the server neither reads nor writes.
///
/// Hummingbird's `consumeWithCancellationOnInboundClose` closes the connection after every watched call. This handler
/// is in the pipeline during one call only, so the connection can be reused for the next one.
final class DisconnectWatch: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = Any

  /// The TCP state CLOSE_WAIT: the peer has closed, this side has not. Source: linux/include/net/tcp_states.h
  private static let closeWait: UInt8 = 8

  private let onClose: @Sendable () -> Void

  init(onClose: @escaping @Sendable () -> Void) {
    self.onClose = onClose
  }

  /// Adds the handler to the pipeline. If the connection is already closed, it calls back before this returns.
  func install(on channel: any Channel) async {
    do {
      try await channel.pipeline.addHandler(self).get()
      // The end may have been read before the handler was in the pipeline.
      guard let socket = channel as? any SocketOptionProvider, channel.remoteAddress?.protocol != .unix else { return }
      let information = try await socket.getTCPInfo().get()
      if information.tcpi_state == Self.closeWait { onClose() }
    } catch is ChannelError {
      onClose()
    } catch {
      // Not a TCP socket: only the channel's events report the end.
    }
  }

  func remove(from channel: any Channel) async {
    // Fails only when the channel has removed it already.
    try? await channel.pipeline.removeHandler(self).get()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed? = event as? ChannelEvent { onClose() }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    onClose()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    onClose()
    context.fireErrorCaught(error)
  }

  /// Also called when the channel closes: Hummingbird's connection handler does not forward `channelInactive`.
  func handlerRemoved(context: ChannelHandlerContext) {
    onClose()
  }
}
