import Concurrency
package import Foundation

/// Decides whether a call comes from whoever knows the host's secret, now, and for the first time.
///
/// Time may differ by 30 s: clocks that are kept by NTP differ by milliseconds, and where they differ by much more the
/// hosts' signs of life in the database mean nothing either. The shorter the span, the fewer nonces have to be
/// remembered.
package final class CallVerifier: Sendable {
  package enum Refusal: Error, Equatable {
    case malformed
    case wrongSignature
    case stale
    case replayed
    /// More calls in a minute than nonces are remembered.
    case tooMany
  }

  package static let tolerance: TimeInterval = 30
  /// A call that is on time can come again for this long.
  static let memory: Duration = .seconds(60)
  package static let standardCapacity = 131_072

  private struct Nonces {
    /// Those of the span that runs, and of the one before it.
    var current: Set<String> = []
    var previous: Set<String> = []
    var began: ContinuousClock.Instant
  }

  package let secret: HostSecret
  private let now: @Sendable () -> Date
  private let instant: @Sendable () -> ContinuousClock.Instant
  private let capacity: Int
  private let nonces: Mutex<Nonces>

  /// - Parameters:
  ///   - capacity: nonces that are remembered of one span; only calls that are signed are.
  ///   - instant: a clock that is never set, by which nonces are forgotten.
  package init(
    secret: HostSecret, capacity: Int = standardCapacity, now: @escaping @Sendable () -> Date = { Date() },
    instant: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
  ) {
    self.secret = secret
    self.capacity = capacity
    self.now = now
    self.instant = instant
    nonces = Mutex(Nonces(began: instant()))
  }

  /// - Throws: why the call is none of a control plane's.
  package func verify(_ signature: CallSignature, _ method: String, _ target: String) throws(Refusal) {
    guard signature.nonce.utf8.count == CallSignature.nonceBytes * 2, (1...15).contains(signature.time.utf8.count),
      let milliseconds = Int64(signature.time)
    else { throw .malformed }
    guard signature.isSigned(method, target, with: secret) else { throw .wrongSignature }
    let age = now().timeIntervalSince1970 - Double(milliseconds) / 1_000
    guard abs(age) <= Self.tolerance else { throw .stale }
    try remember(signature.nonce)
  }

  private func remember(_ nonce: String) throws(Refusal) {
    let time = instant()
    try nonces.withLock { nonces throws(Refusal) in
      if time - nonces.began >= Self.memory {
        // What is older than two spans nobody could use any more.
        nonces.previous = time - nonces.began < Self.memory * 2 ? nonces.current : []
        nonces.current = []
        nonces.began = time
      }
      guard !nonces.current.contains(nonce), !nonces.previous.contains(nonce) else { throw .replayed }
      guard nonces.current.count < capacity else { throw .tooMany }
      nonces.current.insert(nonce)
    }
  }
}
