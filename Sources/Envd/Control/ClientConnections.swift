import Concurrency
import Glibc
package import NIOCore
import NIOHTTPTypes

/// The open connections of clients, so that those from before a restore can be closed.
///
/// A restored guest still has its old connections, but their clients are gone: a stream among them would block its
/// process for ever once its queue is full, and the peer's address may now belong to another sandbox.
package final class ClientConnections: Sendable {
  /// Time limit for connections that have no request when the guest is initialized after a restore. A client that still
  /// exists uses or closes its connection sooner.
  package static let idleLimit = TimeAmount.seconds(30)

  private struct Connection {
    let channel: any Channel
    var requests = 0
    var isBusy = false
  }

  private let idleLimit: TimeAmount
  private let connections = Mutex<[ObjectIdentifier: Connection]>([:])

  package init(idleLimit: TimeAmount = ClientConnections.idleLimit) {
    self.idleLimit = idleLimit
  }

  package var count: Int { connections.withLock { $0.count } }

  /// Aborts all connections with a request, except `current`. Closes idle connections that stay unused for `idleLimit`.
  package func closeStaleConnections(keeping current: any Channel) {
    let others = connections.withLock { $0.filter { $0.key != ObjectIdentifier(current) } }
    for (id, connection) in others {
      if connection.isBusy {
        Self.abort(connection.channel)
      } else {
        connection.channel.eventLoop.scheduleTask(in: idleLimit) { [weak self] () -> Void in
          self?.closeIfUnused(id, since: connection.requests)
        }
      }
    }
  }

  func add(_ channel: any Channel) {
    connections.withLock { $0[ObjectIdentifier(channel)] = Connection(channel: channel) }
  }

  func remove(_ channel: any Channel) {
    _ = connections.withLock { $0.removeValue(forKey: ObjectIdentifier(channel)) }
  }

  func requestBegan(on channel: any Channel) {
    connections.withLock {
      $0[ObjectIdentifier(channel)]?.requests += 1
      $0[ObjectIdentifier(channel)]?.isBusy = true
    }
  }

  func requestEnded(on channel: any Channel) {
    connections.withLock { $0[ObjectIdentifier(channel)]?.isBusy = false }
  }

  private func closeIfUnused(_ id: ObjectIdentifier, since requests: Int) {
    let connection = connections.withLock { $0[id] }
    guard let connection, !connection.isBusy, connection.requests == requests else { return }
    Self.abort(connection.channel)
  }

  /// Resets the connection without lingering, because no peer acknowledges unsent data.
  private static func abort(_ channel: any Channel) {
    channel.eventLoop.execute {
      _ = (channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
      channel.close(promise: nil)
    }
  }
}

/// Reports the opening, requests and closing of one connection to `ClientConnections`.
final class ConnectionReporter: ChannelDuplexHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  private let connections: ClientConnections

  init(_ connections: ClientConnections) {
    self.connections = connections
  }

  func handlerAdded(context: ChannelHandlerContext) {
    connections.add(context.channel)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    connections.remove(context.channel)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if case .head = unwrapInboundIn(data) { connections.requestBegan(on: context.channel) }
    context.fireChannelRead(data)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    if case .end = unwrapOutboundIn(data) { connections.requestEnded(on: context.channel) }
    context.write(data, promise: promise)
  }
}
