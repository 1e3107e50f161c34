import Concurrency
import Foundation
import Model
import Persistence
import Testing

@testable import ControlPlane

@Suite struct PasswordTests {
  private static let cheap = PasswordHasher.Parameters(passes: 1, memoryKiB: 64, lanes: 1)

  @Test("a password matches its own hash and no other")
  func verify() async throws {
    let hasher = PasswordHasher(parameters: Self.cheap)
    let hash = try await hasher.hash("correct horse")
    #expect(try await hasher.verify("correct horse", against: hash))
    #expect(try await hasher.verify("correct horsf", against: hash) == false)
    #expect(try await hasher.hash("correct horse") != hash)
    for damaged in [
      "", "x", "$argon2id$v=19$m=4294967295,t=1,p=1$AAAA$AAAA", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAA$AAAA",
      hash + "x",
    ] {
      #expect(try await hasher.verify("correct horse", against: damaged) == false)
    }
  }

  @Test("an unknown e-mail costs exactly as many evaluations as a wrong password, with the same parameters")
  func sameWork() async throws {
    let hasher = PasswordHasher(parameters: Self.cheap)
    let hash = try await hasher.hash("correct horse")
    var work: [Int] = []
    for target in [hash, nil] {
      let before = hasher.evaluations
      #expect(try await hasher.verify("wrong password", against: target) == false)
      work.append(hasher.evaluations - before)
    }
    #expect(work == [1, 1])
  }

  @Test("hashes with weaker parameters are outdated, those with equal or stronger ones are not")
  func outdated() async throws {
    let weak = PasswordHasher(parameters: Self.cheap)
    let hash = try await weak.hash("correct horse")
    #expect(!weak.isOutdated(hash))
    #expect(PasswordHasher(parameters: .init(passes: 2, memoryKiB: 64, lanes: 1)).isOutdated(hash))
    #expect(PasswordHasher(parameters: .init(passes: 1, memoryKiB: 128, lanes: 1)).isOutdated(hash))
    #expect(!PasswordHasher(parameters: .init(passes: 1, memoryKiB: 32, lanes: 1)).isOutdated(hash))
    #expect(weak.isOutdated("?"))
  }

  @Test("passwords are 8 to 256 characters", arguments: [(7, false), (8, true), (256, true), (257, false)])
  func bounds(_ count: Int, _ isFine: Bool) async throws {
    let hasher = PasswordHasher(parameters: Self.cheap)
    let result = await code { _ = try await hasher.hash(String(repeating: "ü", count: count)) }
    #expect(result == (isFine ? nil : .invalidRequest))
  }

  @Test("of a thousand concurrent calls a few run, some wait, and the rest is refused with a retry time")
  func flood() async throws {
    let slots = AsyncSemaphore(permits: 2, maximumWaiters: 10, queueFull: PasswordHasher.tooManyLogins)
    let hasher = PasswordHasher(parameters: .init(passes: 2, memoryKiB: 4_096, lanes: 1), evaluationSlots: slots)
    let outcomes = await withTaskGroup(of: ErrorCode?.self) { group in
      for _ in 0..<1_000 { group.addTask { await code { _ = try await hasher.verify("password", against: nil) } } }
      return await group.reduce(into: [ErrorCode?: Int]()) { $0[$1, default: 0] += 1 }
    }
    #expect(Set(outcomes.keys) == [nil, .rateLimited])
    #expect(outcomes.values.reduce(0, +) == 1_000)
    #expect(slots.peak == 2)
    #expect(hasher.evaluations == outcomes[ErrorCode?.none] ?? 0)
    #expect(outcomes[ErrorCode?.none] ?? 0 >= 12)
    // Afterwards new calls are admitted as before.
    #expect(try await hasher.verify("password", against: nil) == false)
  }

  @Test("a cancelled waiter leaves the queue to others")
  func cancellation() async throws {
    let slots = AsyncSemaphore(permits: 1, maximumWaiters: 1, queueFull: PasswordHasher.tooManyLogins)
    try await slots.acquire()
    let waiter = Task { try await slots.acquire() }
    // Once the waiter is queued, the queue is full and the next call is refused.
    var isFull = false
    for _ in 0..<2_000 where !isFull {
      let probe = Task { try await slots.acquire() }
      try await Task.sleep(for: .milliseconds(1))
      probe.cancel()
      isFull = await code { try await probe.value } == .rateLimited
    }
    #expect(isFull)
    waiter.cancel()
    await #expect(throws: CancellationError.self) { try await waiter.value }
    slots.release()
    try await slots.acquire()
    slots.release()
  }
}

@Suite struct RateLimiterTests {
  @Test("a burst is admitted, then one call at a time, and the error contains the waiting time")
  func bucket() throws {
    let clock = TestClock()
    let limiter = RateLimiter<String>(Rate(burst: 3, perSecond: 0.5), now: { clock.now })
    for _ in 0..<3 { try limiter.admit("a") }
    let refusal = #expect(throws: MartletError.self) { try limiter.admit("a") }
    #expect(refusal?.code == .rateLimited && refusal?.retryAfterSeconds == 2)
    try limiter.admit("b")
    clock.advance(by: 1)
    #expect(throws: MartletError.self) { try limiter.admit("a") }
    clock.advance(by: 1)
    try limiter.admit("a")
    #expect(throws: MartletError.self) { try limiter.admit("a") }
    clock.advance(by: 3_600)
    for _ in 0..<3 { try limiter.admit("a") }
    #expect(throws: MartletError.self) { try limiter.admit("a") }
    // Setting the clock back neither adds tokens nor blocks the key.
    clock.advance(by: -86_400)
    #expect(throws: MartletError.self) { try limiter.admit("a") }
    clock.advance(by: 2)
    try limiter.admit("a")
  }

  @Test("memory is bounded for any number of keys, and the newest keys are kept")
  func memory() throws {
    let clock = TestClock()
    let limiter = RateLimiter<Int>(Rate(burst: 1, perSecond: 0.0001), capacity: 100, now: { clock.now })
    for key in 0..<10_000 {
      try limiter.admit(key)
      clock.advance(by: 0.001)
      #expect(limiter.count <= 100)
    }
    #expect(throws: MartletError.self) { try limiter.admit(9_999) }
  }

  @Test(
    "a client is identified by its IPv4 address, or by the /64 prefix of its IPv6 address",
    arguments: [
      ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
      ("2001:DB8:1:2::9", "2001:db8:1:2"), ("2001:db8::9", "2001:db8:0:0"), ("fe80::1%eth0", "fe80:0:0:0"),
      ("::1", "0:0:0:0"),
    ])
  func addresses(_ address: String, _ key: String) {
    #expect(RateLimits.key(forAddress: address) == key)
  }
}
