import CLinux
import HTTPTypes
package import Hummingbird
package import LinuxSystem
import NIOCore

/// The routes by which the host initializes, freezes and thaws the guest. Only the host may use them.
package struct ControlRoutes: Sendable {
  /// The contract version that this agent implements. Clients enable features by it. Source: E2B's envd contract
  package static let version = "0.6.13"
  private static let versionHeader = HTTPField.Name("X-Envd-Version")

  private let state: GuestState
  private let policy: PeerPolicy
  private let machine: any GuestMachine
  private let connections: ClientConnections
  private let blocking: BlockingPool

  package init(
    state: GuestState, policy: PeerPolicy, machine: any GuestMachine, connections: ClientConnections,
    blocking: BlockingPool = .shared
  ) {
    self.state = state
    self.policy = policy
    self.machine = machine
    self.connections = connections
    self.blocking = blocking
  }

  package func register(on router: Router<AgentRequestContext>) {
    router.post("/init") { request, context in
      try admit(context)
      return try await initialize(request, on: context.channel)
    }
    router.post("/freeze") { _, context in
      try admit(context)
      return try await perform("freeze") { try $0.freeze() }
    }
    router.post("/unfreeze") { _, context in
      try admit(context)
      return try await perform("unfreeze") { try $0.thaw() }
    }
  }

  private func admit(_ context: AgentRequestContext) throws(AgentError) {
    guard policy.admits(context.remoteAddress) else {
      throw AgentError(.forbidden, "this route is for the sandbox's host only")
    }
  }

  /// Sets clock and random state and closes old connections before user processes are thawed. If a step fails, the
  /// processes stay frozen.
  private func initialize(_ request: Request, on channel: any Channel) async throws -> Response {
    let body = try await JSONBody.decode(InitRequest.self, from: request)
    let arrival = await ArrivalTime.ofNewestData(on: channel)
    let validated = try body.validated()
    let isAnotherSandbox = try accept(body, token: AccessToken.presented(in: request))
    let connections = connections
    return try await perform("init") { machine in
      if let time = validated.time { try machine.setClock(time.advanced(by: ContinuousClock.now - arrival)) }
      if !validated.entropy.isEmpty { try machine.addEntropy(validated.entropy) }
      if isAnotherSandbox { try machine.renewMachineID() }
      if let name = validated.hostname { try machine.setHostname(name) }
      if body.newLife == true { connections.closeStaleConnections(keeping: channel) }
      try machine.thaw()
    }
  }

  /// Stores the identity if the caller may change it.
  /// - Returns: whether the sandbox id has changed.
  private func accept(_ body: InitRequest, token: String?) throws(AgentError) -> Bool {
    try state.update { (identity) throws(AgentError) in
      if let current = identity.accessToken {
        guard AccessToken.matches(token, current) || AccessToken.matches(body.accessToken, current) else {
          throw AgentError(.unauthorized, "the sandbox has an access token already; changing it needs the current one")
        }
      }
      let isAnotherSandbox = body.sandboxID.map { $0 != identity.sandboxID } ?? false
      identity.apply(body)
      return isAnotherSandbox
    }
  }

  private func perform(
    _ name: String, _ body: @escaping @Sendable (any GuestMachine) throws -> Void
  ) async throws -> Response {
    do {
      let machine = machine
      try await blocking.run { try body(machine) }
    } catch {
      throw AgentError(.internalServerError, "\(name) failed: \(error)")
    }
    var response = Response(status: .noContent)
    if let name = Self.versionHeader { response.headers[name] = Self.version }
    return response
  }
}

extension GuestState.Identity {
  /// Applies the fields that are present. Environment variables replace the former ones as a whole.
  package mutating func apply(_ body: InitRequest) {
    if let variables = body.envVars { environment = variables }
    if let token = body.accessToken { accessToken = token }
    if let user = body.defaultUser { defaultUser = user }
    if let directory = body.defaultWorkdir { defaultWorkdir = directory.isEmpty ? nil : directory }
    if let id = body.sandboxID { sandboxID = id }
    if let id = body.templateID { templateID = id }
  }
}

/// The time at which the newest data of a connection arrived in the guest. A handler sees the data much later: the
/// first request after a restore runs code whose pages are not loaded yet, which takes a hundred milliseconds under
/// emulation, and the guest's clock must not be late by as much.
enum ArrivalTime {
  /// The current time if the kernel does not report the arrival.
  static func ofNewestData(on channel: any Channel) async -> ContinuousClock.Instant {
    let age = try? await channel.eventLoop.submit { try milliseconds(channel) }.get()
    return .now - .milliseconds(Int64(age ?? 0))
  }

  private static func milliseconds(_ channel: any Channel) throws -> UInt32 {
    let age = try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) {
      (socket: CInt) -> UInt32 in
      var milliseconds: UInt32 = 0
      return martlet_guest_milliseconds_since_data(socket, &milliseconds) == 0 ? milliseconds : 0
    }
    return age ?? 0
  }
}
