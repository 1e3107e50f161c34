import Connect
import ConnectServer
import HostAPI
import Logging
import Model
import Protos
import SwiftProtobuf

/// The methods of one host; `register` and its extensions are the list of what a control plane may ask.
struct HostRoutes: Sendable {
  let host: any HostClient
  let sessions: ProcessSessions
  let logger: Logger

  func register(on router: ConnectRouter<BasicConnectRequestContext>) {
    registerLifecycle(on: router)
    registerSnapshots(on: router)
    registerProcesses(on: router)
    registerDirectories(on: router)
  }

  // MARK: Kinds of calls

  /// A short call. Its caller's time-out cancels it; a caller that goes away does not.
  func unary<Q: Message, R: Message>(
    _ method: HostMethod, on router: ConnectRouter<BasicConnectRequestContext>,
    _ work: @escaping @Sendable (Q) async throws -> R
  ) {
    router.unary(HostMethod.service, method.rawValue) { (request: Q, _) in
      try await answering(method) { try await work(request) }
    }
  }

  /// A call that may take long. It belongs to the sandbox: once begun it is carried to its end, whoever waits for it
  /// (L-7).
  func operation<Q: Message>(
    _ method: HostMethod, on router: ConnectRouter<BasicConnectRequestContext>,
    _ work: @escaping @Sendable (Q) async throws -> Host_OperationEvent
  ) {
    router.serverStream(HostMethod.service, method.rawValue) {
      (request: Q, _, writer: ConnectWriter<Host_OperationEvent>) in
      let result = try await answering(method) {
        // Not a child: the handler is cancelled when the caller goes away.
        let task = Task { try await work(request) }
        return try await keepingAlive(writer, .with { $0.keepalive = Host_KeepAlive() }) { try await task.value }
      }
      try await writer.write(result)
    }
  }

  /// Runs a call and gives its errors the form in which they travel. Causes stay in this process's log.
  func answering<Value>(_ method: HostMethod, _ work: () async throws -> Value) async throws -> Value {
    do {
      return try await work()
    } catch let error as ConnectError {
      throw error
    } catch let error as MalformedHostMessage {
      throw HostErrors.connectError(MartletError(.invalidRequest, "\(error)"))
    } catch {
      let error = MartletError.wrapping(error)
      if error.cause != nil, error.code != .canceled {
        logger.notice("call failed", metadata: ["rpc.method": "\(method.rawValue)", "error": "\(error)"])
      }
      throw HostErrors.connectError(error)
    }
  }
}

/// Runs `work`, and meanwhile writes a sign of life at once and now and then.
/// - Throws: what `work` throws; when the caller has gone, only after `work` has ended.
func keepingAlive<Event: Message, Value: Sendable>(
  _ writer: ConnectWriter<Event>, _ sign: Event, _ work: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  try await withThrowingTaskGroup(of: Value?.self) { group in
    group.addTask { try await work() }
    group.addTask {
      while true {
        try await writer.write(sign)
        try await Task.sleep(for: HostMessageLimits.keepAlive)
      }
    }
    defer { group.cancelAll() }
    while let next = try await group.next() {
      if let next { return next }
    }
    throw CancellationError()
  }
}
