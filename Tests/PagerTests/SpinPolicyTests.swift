import Testing

@testable import Pager

@Suite struct SpinPolicyTests {
  @Test("spins long after the start, shorter later")
  func bounds() {
    var policy = SpinPolicy(now: 0)
    #expect(policy.nanoseconds(now: 1) == SpinPolicy.longestAtStart)
    #expect(policy.nanoseconds(now: SpinPolicy.startNanoseconds) == SpinPolicy.longestLater)
  }

  @Test("stops spinning when it finds nothing, and starts again when faults follow closely")
  func adapts() {
    var policy = SpinPolicy(now: 0)
    var rounds = 0
    while policy.nanoseconds(now: 1) > 0 {
      policy.foundNothing()
      rounds += 1
      #expect(rounds < 20)
    }
    policy.woke(after: SpinPolicy.longestLater + 1)
    #expect(policy.nanoseconds(now: 1) == 0)
    policy.woke(after: SpinPolicy.longestLater - 1)
    #expect(policy.nanoseconds(now: 1) > 0)
  }
}
