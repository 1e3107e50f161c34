import HostAPI
import TestSupport
import Testing

/// How the control planes of a test reach their hosts.
enum HostLink {
  /// Whether hosts are called over the network, like hosts of other processes.
  @TaskLocal static var isRemote = false

  static func connect<Value>(
    _ hosts: [SimulatedHost], _ body: ([any HostClient]) async throws -> Value
  ) async throws -> Value {
    isRemote ? try await ServedHost.runAll(hosts, body) : try await body(hosts)
  }
}

/// Runs each test twice: with hosts in the process, and with hosts over RPC. Both must behave alike.
struct BothLinks: SuiteTrait, TestTrait, TestScoping {
  let isRecursive = true

  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    try await function()
    try await HostLink.$isRemote.withValue(true) { try await function() }
  }
}

extension Trait where Self == BothLinks {
  static var bothLinks: Self { Self() }
}
