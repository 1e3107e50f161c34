import Connect
import ConnectServer
import HostAPI
import Logging
import Model
import Protos
import SwiftProtobuf

/// Serves the methods of one host; `register` and its extensions list all calls that a control plane may make.
struct HostRoutes: Sendable {
  let host: any HostClient
  let sessions: ProcessSessions
  let logger: Logger

  func register(on router: ConnectRouter<BasicConnectRequestContext>) {
    registerLifecycle(on: router)
    registerSnapshots(on: router)
    registerQuarantine(on: router)
    registerProcesses(on: router)
    registerDirectories(on: router)
  }

  // MARK: - Kinds of calls

  /// Registers a short call. The caller's time-out cancels it; a disconnect does not.
  func unary<Q: Message, R: Message>(
    _ method: HostMethod, on router: ConnectRouter<BasicConnectRequestContext>,
    _ work: @escaping @Sendable (Q) async throws -> R
  ) {
    router.unary(HostMethod.service, method.rawValue) { (request: Q, _) in
      try await mappingErrors(method) { try await work(request) }
    }
  }

  /// Registers a call that may take long. The operation belongs to the sandbox: once begun it runs to its end, even if
  /// the caller disconnects.
  func operation<Q: Message>(
    _ method: HostMethod, on router: ConnectRouter<BasicConnectRequestContext>,
    _ work: @escaping @Sendable (Q) async throws -> Host_OperationEvent
  ) {
    router.serverStream(HostMethod.service, method.rawValue) {
      (request: Q, _, writer: ConnectWriter<Host_OperationEvent>) in
      let result = try await mappingErrors(method) {
        // An unstructured task, as the handler is cancelled when the caller disconnects.
        let task = Task { try await work(request) }
        return try await withKeepAlives(writer, .with { $0.keepalive = Host_KeepAlive() }) { try await task.value }
      }
      try await writer.write(result)
    }
  }

  /// Runs a call and maps its errors to their form on the wire. Causes are only logged in this process.
  func mappingErrors<Value>(_ method: HostMethod, _ work: () async throws -> Value) async throws -> Value {
    do {
      return try await work()
    } catch let error as ConnectError {
      throw error
    } catch let error as MalformedHostMessage {
      throw HostErrors.connectError(MartletError(.invalidRequest, "\(error)"))
    } catch {
      let error = MartletError.wrapping(error)
      if error.cause != nil, error.code != .canceled {
        logger.notice("host call failed", metadata: [LogKey.rpcMethod: "\(method.rawValue)", LogKey.error: "\(error)"])
      }
      throw HostErrors.connectError(error)
    }
  }
}

/// Runs `work`, and meanwhile writes a keep-alive event at once and then at intervals.
/// - Throws: what `work` throws; if the caller disconnected, only after `work` has ended.
func withKeepAlives<Event: Message, Value: Sendable>(
  _ writer: ConnectWriter<Event>, _ keepAlive: Event, _ work: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  try await withThrowingTaskGroup(of: Value?.self) { group in
    group.addTask { try await work() }
    group.addTask {
      while true {
        try await writer.write(keepAlive)
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
