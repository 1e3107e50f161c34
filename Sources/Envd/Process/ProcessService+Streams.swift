import Connect
import ConnectServer
import FoundationEssentials
import HTTPTypes
import LinuxSystem
import NIOCore
import Protos
import SwiftProtobuf

extension ProcessService {
  /// Sent by `GuestClient`, which then gets the end event when the time-out has ended the process.
  private static let martletClientHeader = HTTPField.Name("Martlet-Client")
  /// How long the call waits for the end of a killed process.
  private static let killGrace = TimeAmount.seconds(2)

  /// Starts a process and streams its updates. The process outlives a client that disconnects, but not the call's
  /// time-out.
  func start(
    _ request: Process_StartRequest, _ context: ConnectContext, _ writer: ConnectWriter<Process_StartResponse>
  ) async throws {
    try await ConnectError.mappingErrors {
      let subscription = try await launch(request, context)
      try await stream(subscription, context, endsWithCall: true) { event in
        try await writer.write(Process_StartResponse.with { $0.event = event })
      }
    }
  }

  /// Streams the updates of a process from now on. The call's time-out ends only the stream.
  func attach(
    _ request: Process_ConnectRequest, _ context: ConnectContext, _ writer: ConnectWriter<Process_ConnectResponse>
  ) async throws {
    try await ConnectError.mappingErrors {
      let process = try registry.find(request.process)
      let subscription = try process.subscribe(
        keepAlive: TimeAmount(CallHeaders.keepAliveInterval(in: context.headers)))
      try await stream(subscription, context, endsWithCall: false) { event in
        try await writer.write(Process_ConnectResponse.with { $0.event = event })
      }
    }
  }

  private func launch(_ request: Process_StartRequest, _ context: ConnectContext) async throws -> ProcessSubscription {
    guard !registry.isFull else { throw ProcessServiceError.tooManyProcesses }
    let guest = state.identity
    let keepAlive = TimeAmount(CallHeaders.keepAliveInterval(in: context.headers))
    let timeout = context.deadline.map { NIODeadline.now() + TimeAmount($0 - .now) }
    let name = CallHeaders.userName(in: context.headers) ?? guest.defaultUser
    return try await blocking.run { () throws(ProcessServiceError) -> ProcessSubscription in
      let user = try self.user(named: name)
      let plan = try LaunchPlan.make(request, user: user, guest: guest, agentPath: agentPath)
      let registry = registry
      let subscription = try launcher.launch(plan, keepAlive: keepAlive, timeout: timeout) { registry.retire($0) }
      registry.add(subscription.process)
      return subscription
    }
  }

  private func user(named name: String) throws(ProcessServiceError) -> GuestUser {
    do {
      return try users.user(named: name)
    } catch {
      throw .invalidUser(name)
    }
  }

  /// - Parameter endsWithCall: whether the time-out that ends the call also kills the process.
  private func stream(
    _ subscription: ProcessSubscription, _ context: ConnectContext, endsWithCall: Bool,
    send: @escaping @Sendable (Process_ProcessEvent) async throws -> Void
  ) async throws {
    defer { subscription.cancel() }
    let wantsEnd = endsWithCall && Self.martletClientHeader.map { context.headers.contains($0) } == true
    do {
      while let update = try await subscription.next() {
        if case .ended(let end) = update, end.isTimeout, endsWithCall {
          if wantsEnd { try await Self.shielded { try await send(Process_ProcessEvent(update)) } }
          throw Self.timedOut
        }
        try await send(Process_ProcessEvent(update))
      }
    } catch is CancellationError {
      guard endsWithCall, let deadline = context.deadline, deadline <= .now else { throw CancellationError() }
      subscription.process.timeOut()
      if wantsEnd { await sendRest(of: subscription, send) }
      throw Self.timedOut
    }
  }

  private static var timedOut: ConnectError {
    ConnectError(.deadlineExceeded, "the process was killed: its time-out has passed")
  }

  /// Sends the remaining updates of the process up to its end, after the deadline has cancelled the handler.
  private func sendRest(
    of subscription: ProcessSubscription, _ send: @escaping @Sendable (Process_ProcessEvent) async throws -> Void
  ) async {
    // An unstructured task, because every wait in the handler's cancelled task would fail at once.
    let rest = Task {
      while let update = try await subscription.next() { try await send(Process_ProcessEvent(update)) }
    }
    let limit = subscription.process.eventLoop.scheduleTask(in: Self.killGrace) { rest.cancel() }
    _ = await rest.result
    limit.cancel()
  }

  private static func shielded(_ body: @escaping @Sendable () async throws -> Void) async throws {
    // An unstructured task, because the deadline may cancel the current one while it writes.
    try await Task { try await body() }.value
  }
}
