import AsyncHTTPClient
import Model
import NIOCore
import NIOHTTP1
import NIOPosix

/// Intervals and time-outs with which the host polls a booting guest.
///
/// A SYN that is sent before the guest's network interface is up is lost, and the kernel repeats it only after a
/// second; so the attempts are short and many. Each time-out doubles the limit of the next attempt, because on a busy
/// host a healthy guest may need longer than the first limit. Measured on QEMU.
struct HealthPolicy {
  static let pause: Duration = .milliseconds(3)
  static let longestConnect: TimeAmount = .milliseconds(320)
  static let response: Duration = .seconds(2)

  private(set) var connect: TimeAmount

  init(connect: TimeAmount = .milliseconds(20)) {
    self.connect = connect
  }

  mutating func timedOut() {
    connect = min(Self.longestConnect, .nanoseconds(connect.nanoseconds * 2))
  }
}

extension GuestClient {
  /// Returns when the guest agent has responded to `GET /health`.
  /// - Throws: `agent_error` if it has not by `deadline`, with the last failure as cause.
  package func waitUntilHealthy(deadline: ContinuousClock.Instant) async throws {
    var policy = HealthPolicy()
    while true {
      let failure: any Error
      do {
        try await probe(within: policy.connect)
        let left = min(HealthPolicy.response, max(.milliseconds(1), deadline - .now))
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

  /// Connects to the guest's port and closes the connection.
  private func probe(within limit: TimeAmount) async throws {
    let channel = try await ClientBootstrap(group: httpClient.eventLoopGroup)
      .connectTimeout(limit)
      .connect(host: address, port: port).get()
    try? await channel.close().get()
  }
}
