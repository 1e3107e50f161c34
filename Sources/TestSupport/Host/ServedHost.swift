package import AsyncHTTPClient
package import Foundation
package import HostAPI
package import HostRPC
import Logging
package import Model
import ServiceLifecycle

/// A host that is served over the loopback interface, like a host in another process.
package struct ServedHost: Sendable {
  /// Shared by all tests of a process; never shut down.
  package static let httpClient = HostRPC.makeHTTPClient()

  package let client: HostRPC
  package let secret: HostSecret
  package let port: Int

  package var address: String { "127.0.0.1:\(port)" }

  /// Serves `host` while `body` runs.
  package static func run<Value>(
    _ host: any HostClient, now: @escaping @Sendable () -> Date = { Date() }, limits: HostRPCLimits = HostRPCLimits(),
    installation: InstallationID? = nil, _ body: (ServedHost) async throws -> Value
  ) async throws -> Value {
    var logger = Logger(label: "test host")
    logger.logLevel = .critical
    let secret = HostSecret.random()
    let (ports, portContinuation) = AsyncStream<Int>.makeStream()
    let server = HostServer(
      host,
      configuration: HostServerConfiguration(secret: secret, installation: installation, now: now) {
        portContinuation.yield($0)
      },
      logger: logger)
    var configuration = ServiceGroupConfiguration(services: [server], logger: logger)
    configuration.maximumGracefulShutdownDuration = .seconds(2)
    let group = ServiceGroup(configuration: configuration)
    // In a task of its own, because `body` runs in the test's task.
    let run = Task {
      // A forced end is reported as an error, which some tests cause on purpose.
      try? await group.run()
      portContinuation.finish()
    }
    var iterator = ports.makeAsyncIterator()
    guard let port = await iterator.next() else { throw SimulatedFault() }
    let client = HostRPC(
      hostID: host.hostID, address: "127.0.0.1:\(port)", secret: secret, httpClient: httpClient, limits: limits,
      now: now)
    let result: Result<Value, any Error>
    do {
      result = .success(try await body(ServedHost(client: client, secret: secret, port: port)))
    } catch {
      result = .failure(error)
    }
    await group.triggerGracefulShutdown()
    await run.value
    return try result.get()
  }

  /// Serves all `hosts` while `body` runs, which gets a client for each, in the same order.
  package static func runAll<Value>(
    _ hosts: [any HostClient], now: @escaping @Sendable () -> Date = { Date() },
    _ body: ([any HostClient]) async throws -> Value
  ) async throws -> Value {
    guard let last = hosts.last else { return try await body([]) }
    return try await run(last, now: now) { served in
      try await runAll(Array(hosts.dropLast()), now: now) { try await body($0 + [served.client]) }
    }
  }
}
