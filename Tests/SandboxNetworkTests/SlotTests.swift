import Model
import Testing

@testable import SandboxNetwork

@Suite("Slots")
struct SlotTests {
  private func addressing(_ network: String = "10.200.0.0/16") throws -> SlotAddressing {
    try SlotAddressing(network: #require(IPv4Network(network)))
  }

  @Test(
    "a slot's names and addresses follow from its number",
    arguments: [
      (0, "10.200.0.1", "10.200.0.2"), (1, "10.200.0.5", "10.200.0.6"), (64, "10.200.1.1", "10.200.1.2"),
      (16_383, "10.200.255.253", "10.200.255.254"),
    ])
  func addresses(slot: Int, host: String, inner: String) throws {
    let address = try addressing().address(of: slot)
    #expect(address.hostSide.description == host)
    #expect(address.namespaceSide.description == inner)
    #expect(address.namespaceName == "mrt-\(slot)")
    #expect(address.hostLinkName == "mv\(slot)")
    #expect(address.namespacePath == "/run/netns/mrt-\(slot)")
  }

  @Test("no two slots share an address or a name, and link names fit the kernel's limit")
  func distinct() throws {
    let addressing = try addressing()
    #expect(addressing.capacity >= 4_096)
    let all = try (0..<addressing.capacity).map { try addressing.address(of: $0) }
    #expect(Set(all.flatMap { [$0.hostSide, $0.namespaceSide] }).count == 2 * all.count)
    #expect(Set(all.map(\.namespaceName)).count == all.count)
    #expect(all.allSatisfy { $0.hostLinkName.utf8.count <= 15 })
  }

  @Test("slots outside the network are refused", arguments: [-1, 16_384, Int.max, Int.min])
  func outOfRange(slot: Int) throws {
    let addressing = try addressing()
    #expect(throws: NetworkError.self) { try addressing.address(of: slot) }
  }

  @Test(
    "names that only resemble ours are not ours",
    arguments: [
      "mrt-", "mrt-01", "mrt-+1", "mrt--1", "mrt-1x", "mrt-16384", "mrt-99999999999999999999", "MRT-1", "xmrt-1", "mv1",
      "",
    ])
  func foreignNames(name: String) throws {
    #expect(try addressing().slot(ofNamespace: name) == nil)
  }

  @Test("our names map back to their slot")
  func ownNames() throws {
    let addressing = try addressing()
    #expect(addressing.slot(ofNamespace: "mrt-4000") == 4_000)
    #expect(addressing.slot(ofLink: "mv0") == 0)
  }

  @Test("a network without slots, and an invalid prefix, are refused")
  func configuration() throws {
    let tooSmall = try #require(IPv4Network("10.0.0.0/31"))
    let tooLarge = try #require(IPv4Network("0.0.0.0/0"))
    let network = try #require(IPv4Network("10.200.0.0/16"))
    #expect(throws: NetworkError.self) { try SlotAddressing(network: tooSmall) }
    #expect(throws: NetworkError.self) { try SlotAddressing(network: tooLarge) }
    for prefix in ["", "a/b", "a b", "a;b", "..", "averylongprefix"] {
      #expect(throws: NetworkError.self) { try SlotAddressing(network: network, linkPrefix: prefix) }
    }
    #expect(throws: NetworkError.self) { try SlotAddressing(network: network, namespacePrefix: "../") }
  }

  @Test("a pool hands out every slot once and then none")
  func poolIsExhausted() {
    var pool = SlotPool(slots: 10..<14)
    let taken = [pool.take(), pool.take(), pool.take(), pool.take(), pool.take()]
    #expect(taken == [10, 11, 12, 13, nil])
  }

  @Test("a released slot is handed out last")
  func poolIsRoundRobin() {
    var pool = SlotPool(slots: 0..<4)
    let first = pool.take()
    #expect(first == 0)
    pool.release(0)
    let rest = [pool.take(), pool.take(), pool.take(), pool.take()]
    #expect(rest == [1, 2, 3, 0])
  }

  @Test("a second release changes nothing, and a claimed slot is not handed out")
  func poolClaims() {
    var pool = SlotPool(slots: 0..<3)
    let claims = [pool.claim(1), pool.claim(1), pool.claim(3)]
    #expect(claims == [true, false, false])
    let taken = [pool.take(), pool.take(), pool.take()]
    #expect(taken == [2, 0, nil])
    let releases = [pool.release(0), pool.release(0)]
    #expect(releases == [true, false])
    #expect(pool.takenCount == 2)
  }
}

@Suite struct ClaimedSlotTests {
  @Test("a claimed slot is handed out last after its release")
  func lastAgain() {
    var pool = SlotPool(slots: 0..<4)
    let isClaimed = pool.claim(1)
    pool.release(1)
    let taken = [pool.take(), pool.take(), pool.take(), pool.take()]
    #expect(isClaimed && taken == [2, 3, 0, 1])
  }
}
