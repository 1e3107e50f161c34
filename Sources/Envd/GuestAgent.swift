import Connect
import ConnectServer
import Glibc
package import Hummingbird
import HummingbirdCore
package import LinuxSystem
package import Logging
package import NIOCore
import NIOHTTPTypes
import ServiceLifecycle

/// The guest agent: one HTTP/1.1 server with the plain routes, the process service and the file routes.
///
/// It uses Hummingbird's server without `Application`, whose services wake up once a second: an idle guest should not
/// touch its memory, which is shared with other guests and saved in snapshots.
package final class GuestAgent: Sendable {
  /// The differences between process 1 of a guest and a program on a developer's machine.
  package struct Configuration: Sendable {
    package var host: String
    package var port: Int
    package var policy: PeerPolicy
    package var machine: any GuestMachine
    package var confinement: ProcessLauncher.Confinement
    package var adoptsOrphans: Bool

    package init(
      host: String = "127.0.0.1", port: Int = AgentOptions.standardPort, policy: PeerPolicy = PeerPolicy(hostLink: nil),
      machine: any GuestMachine = UnmanagedMachine(), confinement: ProcessLauncher.Confinement = .init(),
      adoptsOrphans: Bool = false
    ) {
      self.host = host
      self.port = port
      self.policy = policy
      self.machine = machine
      self.confinement = confinement
      self.adoptsOrphans = adoptsOrphans
    }
  }

  /// Connections that may wait to be accepted.
  private static let backlog = 256

  package let state: GuestState
  package let registry: ProcessRegistry
  package let reaper: ChildReaper
  package let poller: DescriptorPoller
  private let configuration: Configuration
  private let group: any EventLoopGroup
  private let logger: Logger
  private let users = UserDatabase()
  package let connections: ClientConnections

  package init(
    _ configuration: Configuration, state: GuestState = GuestState(),
    connections: ClientConnections = ClientConnections(),
    group: any EventLoopGroup,
    logger: Logger
  ) throws(SystemError) {
    // Otherwise a process that closes its standard input would end the agent (pipe(7)).
    signal(SIGPIPE, SIG_IGN)
    self.configuration = configuration
    self.state = state
    self.connections = connections
    self.group = group
    self.logger = logger
    self.registry = ProcessRegistry(eventLoop: group.next())
    self.reaper = ChildReaper(adoptsOrphans: configuration.adoptsOrphans)
    self.poller = try DescriptorPoller()
  }

  /// Serves until the task is cancelled.
  /// - Parameter onListening: called once with the port.
  package func run(onListening: @escaping @Sendable (Int) async -> Void = { _ in }) async throws {
    let responder = makeRouter().buildResponder()
    let logger = logger
    let connections = connections
    let handlers = HTTP1Channel.Configuration(additionalChannelHandlers: [
      LargeReads(), ConnectionReporter(connections),
    ])
    let server = try HTTPServerBuilder.http1(configuration: handlers).buildServer(
      configuration: ServerConfiguration(
        address: .hostname(configuration.host, port: configuration.port), backlog: Self.backlog),
      eventLoopGroup: group, logger: logger
    ) { request, writer, channel in
      let context = AgentRequestContext(source: ApplicationRequestContextSource(channel: channel, logger: logger))
      let response = try await responder.respond(to: request, context: context)
      try await writer.write(response: response.head, body: response.body)
    } onServerRunning: { channel in
      await onListening(channel.localAddress?.port ?? 0)
    }
    defer { poller.stop() }
    try await server.run()
  }

  /// Makes the router with all routes. Tests use it without a server.
  package func makeRouter() -> Router<AgentRequestContext> {
    let router = Router(context: AgentRequestContext.self)
    router.addMiddleware {
      ErrorMiddleware()
      TokenMiddleware(state: state)
    }
    StatusRoutes(state: state, sampler: MetricsSampler()).register(on: router)
    ControlRoutes(state: state, policy: configuration.policy, machine: configuration.machine, connections: connections)
      .register(
        on: router)
    let connect = ConnectRouter(router)
    makeProcessService().register(on: connect)
    registerFileRoutes(on: router, connect: connect, state: state, users: users)
    return router
  }

  private func makeProcessService() -> ProcessService {
    let launcher = ProcessLauncher(
      poller: poller, reaper: reaper, eventLoop: group.next(), confinement: configuration.confinement)
    return ProcessService(
      launcher: launcher, registry: registry, state: state, users: users,
      agentPath: getenv("PATH").map { String(cString: $0) })
  }
}

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

/// Lets connections with much input read more per read(2), because system calls are slow under emulation.
final class LargeReads: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = HTTPRequestPart

  /// Same size as the chunks in which uploads are written to disk.
  private static let maximumBytes = 524_288

  func handlerAdded(context: ChannelHandlerContext) {
    let allocator = AdaptiveRecvByteBufferAllocator(minimum: 1_024, initial: 8_192, maximum: Self.maximumBytes)
    try? context.channel.syncOptions?.setOption(.recvAllocator, value: allocator)
  }
}
