import Connect
import ConnectServer
package import Hummingbird
package import NIOCore

/// The context of every request to the guest agent. Its channel is used to notice clients that disconnect, and for the
/// peer's address, which decides about access to the control routes.
package struct AgentRequestContext: ConnectRequestContext, RemoteAddressRequestContext {
  package var coreContext: CoreRequestContextStorage
  package let channel: any Channel

  package init(source: ApplicationRequestContextSource) {
    self.coreContext = CoreRequestContextStorage(source: source)
    self.channel = source.channel
  }

  /// Address of the peer; nil only on transports without addresses.
  package var remoteAddress: SocketAddress? { channel.remoteAddress }
}
