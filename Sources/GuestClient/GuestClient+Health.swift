import AsyncHTTPClient
import Model
import NIOCore
import NIOHTTP1
import NIOPosix

/// How often and how patiently a guest is asked whether it is up.
///
/// A SYN that is sent before the guest's network interface is up is lost, and the kernel repeats it only after a
/// second; so attempts are short and many. Each time-out makes the next attempt more patient, for a host so busy that a
/// healthy guest needs longer than the first one allows. Measured on QEMU.
struct HealthPolicy {
  static let pause: Duration = .milliseconds(3)
  static let longestConnect: TimeAmount = .milliseconds(320)
  static let answer: Duration = .seconds(2)

  private(set) var connect: TimeAmount

  init(connect: TimeAmount = .milliseconds(20)) {
    self.connect = connect
  }

  mutating func timedOut() {
    connect = min(Self.longestConnect, .nanoseconds(connect.nanoseconds * 2))
  }
}

extension GuestClient {
  /// Returns once the guest agent has answered `GET /health`.
  /// - Throws: `agent_error` when it has not by `deadline`, with the last failure as cause.
  package func waitUntilHealthy(deadline: ContinuousClock.Instant) async throws {
    var policy = HealthPolicy()
    while true {
      let failure: any Error
      do {
        try await probe(within: policy.connect)
        let left = min(HealthPolicy.answer, max(.milliseconds(1), deadline - .now))
        _ = try await perform(plainRequest(.GET, "/health"), within: left, .control)
        return
      } catch {
        if case ChannelError.connectTimeout? = error as? ChannelError { policy.timedOut() }
        failure = error
      }
      guard !Task.isCancelled else { throw MartletError(.canceled, "the request was canceled") }
      guard .now + HealthPolicy.pause < deadline else { throw GuestErrors.unreachable(cause: failure) }
      try? await Task.sleep(for: HealthPolicy.pause)
    }
  }

  /// Whether the guest's port takes a connection.
  private func probe(within limit: TimeAmount) async throws {
    let channel = try await ClientBootstrap(group: httpClient.eventLoopGroup)
      .connectTimeout(limit)
      .connect(host: address, port: port).get()
    try? await channel.close().get()
  }
}
