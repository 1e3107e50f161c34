import Concurrency
package import Foundation
package import Model

/// A bound on a frequency: `burst` at once, then `perSecond` on average.
package struct Rate: Sendable, Equatable {
  package var burst: Double
  package var perSecond: Double

  package init(burst: Double, perSecond: Double) {
    self.burst = burst
    self.perSecond = perSecond
  }
}

/// Token buckets, one per key, in bounded memory.
///
/// A full bucket is equivalent to a new one and is removed. When the number of buckets reaches the capacity, the least
/// recently used half is removed: an attacker needs thousands of addresses to reset a bucket, and no well-behaved
/// client is refused.
package final class RateLimiter<Key: Hashable & Sendable>: Sendable {
  private struct Bucket {
    var tokens: Double
    var updated: Date
  }

  /// Nil means no limit.
  private let rate: Rate?
  private let capacity: Int
  private let now: @Sendable () -> Date
  private let buckets = Mutex([Key: Bucket]())

  package init(_ rate: Rate?, capacity: Int = 10_000, now: @escaping @Sendable () -> Date) {
    self.rate = rate
    self.capacity = capacity
    self.now = now
  }

  package var count: Int { buckets.withLock { $0.count } }

  /// Takes one token.
  /// - Throws: `rate_limited` with the time until a token is available.
  package func admit(_ key: Key) throws(MartletError) {
    guard let rate else { return }
    let now = now()
    let missing = buckets.withLock { buckets in
      var bucket = buckets[key].map { Self.refilled($0, rate, now) } ?? Bucket(tokens: rate.burst, updated: now)
      let missing = max(0, 1 - bucket.tokens)
      if missing == 0 { bucket.tokens -= 1 }
      if buckets[key] == nil, buckets.count >= capacity { Self.makeRoom(&buckets, rate, now) }
      buckets[key] = bucket
      return missing
    }
    guard missing > 0 else { return }
    let seconds = min(86_400, max(1, Int((missing / rate.perSecond).rounded(.up))))
    throw MartletError(
      .rateLimited, "too many requests; try again in \(seconds) second\(seconds == 1 ? "" : "s")",
      retryAfterSeconds: seconds)
  }

  /// Returns a token that `admit` took.
  package func giveBack(_ key: Key) {
    guard let rate else { return }
    buckets.withLock { buckets in
      guard let tokens = buckets[key]?.tokens else { return }
      buckets[key]?.tokens = min(rate.burst, tokens + 1)
    }
  }

  /// A clock that was set back gives nothing and takes nothing.
  private static func refilled(_ bucket: Bucket, _ rate: Rate, _ now: Date) -> Bucket {
    let elapsed = max(0, now.timeIntervalSince(bucket.updated))
    return Bucket(tokens: min(rate.burst, bucket.tokens + elapsed * rate.perSecond), updated: now)
  }

  private static func makeRoom(_ buckets: inout [Key: Bucket], _ rate: Rate, _ now: Date) {
    let capacity = buckets.count
    buckets = buckets.filter { refilled($0.value, rate, now).tokens < rate.burst }
    guard buckets.count > capacity / 2 else { return }
    let newest = buckets.sorted { $0.value.updated > $1.value.updated }.prefix(capacity / 2)
    buckets = Dictionary(uniqueKeysWithValues: newest.map { ($0.key, $0.value) })
  }
}

/// The rate limits of one server.
package struct RateLimits: Sendable {
  package struct Rates: Sendable, Equatable {
    /// Per address.
    package var login: Rate?
    package var signUp: Rate?
    /// Per API key or session, for all API calls.
    package var calls: Rate?
    /// Per address: look-ups of API keys that turn out to be invalid.
    package var unknownKeys: Rate?

    package init(
      login: Rate? = Rate(burst: 10, perSecond: 1.0 / 6), signUp: Rate? = Rate(burst: 5, perSecond: 1.0 / 60),
      calls: Rate? = Rate(burst: 2_000, perSecond: 500), unknownKeys: Rate? = Rate(burst: 100, perSecond: 5)
    ) {
      self.login = login
      self.signUp = signUp
      self.calls = calls
      self.unknownKeys = unknownKeys
    }

    package static let none = Rates(login: nil, signUp: nil, calls: nil, unknownKeys: nil)
  }

  /// What the calls on the API are counted by.
  enum CallKey: Hashable, Sendable {
    case key(APIKeyID)
    case session(UserID, epoch: Int)
  }

  let login: RateLimiter<String>
  let signUp: RateLimiter<String>
  let calls: RateLimiter<CallKey>
  let unknownKeys: RateLimiter<String>

  init(_ rates: Rates, now: @escaping @Sendable () -> Date) {
    login = RateLimiter(rates.login, now: now)
    signUp = RateLimiter(rates.signUp, now: now)
    calls = RateLimiter(rates.calls, now: now)
    unknownKeys = RateLimiter(rates.unknownKeys, now: now)
  }

  /// The rate limit key of a client's address. An IPv6 address is represented by its /64 prefix, as a client usually
  /// has a whole /64.
  static func key(forAddress address: String?) -> String {
    guard let address else { return "unknown" }
    guard address.contains(":") else { return address }
    if let mapped = address.split(separator: ":").last, address.hasPrefix("::ffff:"), mapped.contains(".") {
      return String(mapped)
    }
    return prefix(ofIPv6: address)
  }

  /// The first four groups of an IPv6 address, after expanding `::`.
  private static func prefix(ofIPv6 address: String) -> String {
    let plain = address.prefix { $0 != "%" }
    var groups: [Substring] = []
    if let gap = plain.firstRange(of: "::") {
      groups = plain[..<gap.lowerBound].split(separator: ":")
      let tail = plain[gap.upperBound...].split(separator: ":")
      groups += Array(repeating: "0", count: max(0, 8 - groups.count - tail.count)) + tail
    } else {
      groups = plain.split(separator: ":")
    }
    return groups.prefix(4).joined(separator: ":").lowercased()
  }
}
