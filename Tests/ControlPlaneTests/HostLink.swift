import HostAPI
import TestSupport
import Testing

/// What lies between the control planes of a test and their hosts.
enum HostLink {
  /// Whether the hosts are asked over the network, as those of other processes are.
  @TaskLocal static var isRemote = false

  static func connect<Value>(
    _ hosts: [SimulatedHost], _ body: ([any HostClient]) async throws -> Value
  ) async throws -> Value {
    isRemote ? try await ServedHost.runAll(hosts, body) : try await body(hosts)
  }
}

/// Runs each test twice: with hosts in the process, and with hosts behind RPC. What holds for one way holds for the
/// other.
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
