import Concurrency
import Glibc
package import NIOCore
import NIOHTTPTypes

/// The connections that clients have open, so that those of an earlier life can be ended.
///
/// A guest that is restored believes that its connections still stand, but nobody is at their other end: a stream among
/// them would hold up its process for ever once its queue is full (L-43), and its peer's address is another's now
/// (L-52).
package final class ClientConnections: Sendable {
  /// For connections without a request when a new life begins. A client that is there uses or closes its own sooner.
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

  /// Ends every stream and request but those of `current`; what is idle ends a little later if it stays so.
  package func beginNewLife(keeping current: any Channel) {
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

  /// Without lingering: nobody acknowledges what is still to be sent.
  private static func abort(_ channel: any Channel) {
    channel.eventLoop.execute {
      _ = (channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
      channel.close(promise: nil)
    }
  }
}

/// Reports one connection's life and requests.
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
