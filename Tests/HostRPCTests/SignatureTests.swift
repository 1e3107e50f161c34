import Concurrency
import Foundation
import Testing

@testable import HostRPC

@Suite struct SignatureTests {
  private static let moment = Date(timeIntervalSince1970: 1_700_000_000)
  private let secret = HostSecret.random()

  private func verifier(at date: Date = moment, capacity: Int = 16) -> CallVerifier {
    CallVerifier(secret: secret, capacity: capacity, now: { date })
  }

  private func refusal(
    _ signature: CallSignature, _ verifier: CallVerifier, target: String = "/a"
  ) -> CallVerifier.Refusal? {
    do {
      try verifier.verify(signature, "POST", target)
      return nil
    } catch {
      return error
    }
  }

  @Test("a signed call is accepted once")
  func once() {
    let signature = CallSignature("POST", "/a", at: Self.moment, with: secret)
    let verifier = verifier()
    #expect(refusal(signature, verifier) == nil)
    #expect(refusal(signature, verifier) == .replayed)
  }

  @Test("a call whose path, method, time, nonce, signature or secret was changed is refused")
  func altered() throws {
    let signature = CallSignature("POST", "/a", at: Self.moment, with: secret)
    #expect(refusal(signature, verifier(), target: "/b") == .wrongSignature)
    #expect(refusal(CallSignature("PUT", "/a", at: Self.moment, with: secret), verifier()) == .wrongSignature)
    #expect(refusal(CallSignature("POST", "/a", at: Self.moment, with: .random()), verifier()) == .wrongSignature)
    let later = CallSignature(
      time: String((Int64(signature.time) ?? 0) + 1), nonce: signature.nonce, mac: signature.mac)
    #expect(refusal(later, verifier()) == .wrongSignature)
    let other = CallSignature(time: signature.time, nonce: String(signature.nonce.reversed()), mac: signature.mac)
    #expect(refusal(other, verifier()) == .wrongSignature)
    for mac in [
      "", "0", "zz", String(signature.mac.dropLast(2)), signature.mac.uppercased(),
      String(repeating: "0", count: 1 << 16),
    ]
    where mac != signature.mac {
      #expect(
        refusal(CallSignature(time: signature.time, nonce: signature.nonce, mac: mac), verifier()) == .wrongSignature)
    }
    for (time, nonce) in [
      ("", signature.nonce), ("1e3", signature.nonce), ("99999999999999999999", signature.nonce), (signature.time, ""),
      (signature.time, "ab"),
    ] {
      #expect(refusal(CallSignature(time: time, nonce: nonce, mac: signature.mac), verifier()) == .malformed)
    }
  }

  @Test(
    "calls are accepted up to half a minute before or after their time", arguments: [30.0, -30, 30.01, -30.01, 3_600])
  func stale(age: TimeInterval) {
    let signature = CallSignature("POST", "/a", at: Self.moment, with: secret)
    let verdict = refusal(signature, verifier(at: Self.moment.addingTimeInterval(age)))
    #expect(verdict == (abs(age) <= CallVerifier.tolerance ? nil : .stale))
  }

  @Test("nonces are remembered as long as their call is valid, in bounded memory")
  func memory() {
    let time = Mutex((wall: Self.moment, instant: ContinuousClock.now))
    let verifier = CallVerifier(
      secret: secret, capacity: 4, now: { time.withLock { $0.wall } }, instant: { time.withLock { $0.instant } })
    func advance(_ seconds: Double) {
      time.withLock {
        $0.wall += seconds
        $0.instant += .seconds(seconds)
      }
    }
    // As far in the future as is accepted, so that the call is valid for a whole minute.
    let first = CallSignature("POST", "/a", at: Self.moment.addingTimeInterval(29), with: secret)
    #expect(refusal(first, verifier) == nil)
    for _ in 0..<3 { #expect(refusal(CallSignature("POST", "/a", at: Self.moment, with: secret), verifier) == nil) }
    #expect(refusal(CallSignature("POST", "/a", at: Self.moment, with: secret), verifier) == .tooMany)
    advance(58)
    #expect(refusal(first, verifier) == .replayed)
    advance(1)
    #expect(refusal(first, verifier) == .replayed)
    advance(1)
    #expect(refusal(first, verifier) == .stale)
    #expect(refusal(CallSignature("POST", "/a", at: time.withLock { $0.wall }, with: secret), verifier) == nil)
  }

  @Test("a response is authenticated by its call, its status and the secret")
  func answers() {
    let signature = CallSignature("POST", "/a", at: Self.moment, with: secret)
    let mac = signature.responseMAC(status: 200, with: secret)
    #expect(signature.isValidResponse(status: 200, mac: mac, with: secret))
    #expect(!signature.isValidResponse(status: 401, mac: mac, with: secret))
    #expect(!signature.isValidResponse(status: 200, mac: mac, with: .random()))
    #expect(!signature.isValidResponse(status: 200, mac: nil, with: secret))
    #expect(!signature.isValidResponse(status: 200, mac: signature.mac, with: secret))
    #expect(
      !CallSignature("POST", "/a", at: Self.moment, with: secret).isValidResponse(status: 200, mac: mac, with: secret))
  }

  @Test("secrets are 32 bytes, differ, and are never shown")
  func secrets() {
    #expect(HostSecret([1, 2, 3]) == nil)
    #expect(HostSecret.random() != HostSecret.random())
    #expect(HostSecret(secret.bytes) == secret)
    #expect("\(secret)" == "(secret)")
  }
}
