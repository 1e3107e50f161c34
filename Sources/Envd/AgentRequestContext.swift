import Connect
import ConnectServer
package import Hummingbird
package import NIOCore

/// What every request to the guest agent carries: its connection, for noticing clients that go away and for the peer's
/// address, which decides who may use the control routes.
package struct AgentRequestContext: ConnectRequestContext, RemoteAddressRequestContext {
  package var coreContext: CoreRequestContextStorage
  package let channel: any Channel

  package init(source: ApplicationRequestContextSource) {
    self.coreContext = CoreRequestContextStorage(source: source)
    self.channel = source.channel
  }

  /// Address of the peer; nil only on transports without one.
  package var remoteAddress: SocketAddress? { channel.remoteAddress }
}
