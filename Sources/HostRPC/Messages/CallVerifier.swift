import Concurrency
package import Foundation

/// Verifies that a call was signed with the host's secret, recently, and is not a replay.
///
/// The signature's time may differ from the host's clock by 30 s. Clocks that are synchronized by NTP differ by
/// milliseconds; with much larger differences the heartbeats in the database would be useless too. The shorter the
/// tolerance, the fewer nonces must be remembered.
package final class CallVerifier: Sendable {
  package enum Refusal: Error, Equatable {
    case malformed
    case wrongSignature
    case stale
    case replayed
    /// More calls within the memory span than nonces can be remembered.
    case tooMany
  }

  package static let tolerance: TimeInterval = 30
  /// How long nonces are remembered: a valid call can be replayed for this long.
  static let memory: Duration = .seconds(60)
  package static let standardCapacity = 131_072

  private struct Nonces {
    /// The nonces of the present span and of the previous one.
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
  ///   - capacity: the maximum number of nonces per span; only nonces of signed calls are remembered.
  ///   - instant: a monotonic clock, which determines when nonces are removed.
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

  /// - Throws: the reason for which the call is refused.
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
        // Nonces that are older than two spans belong to calls that would be stale.
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
