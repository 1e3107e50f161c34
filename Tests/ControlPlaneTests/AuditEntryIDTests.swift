import Model
import Testing

@testable import ControlPlane

@Suite struct AuditEntryIDTests {
  private let secret = TokenSecret.random()

  @Test("an id stands for one number of one team, and for nothing in another team or under another secret")
  func roundTrip() throws {
    let (first, second) = (TeamID(), TeamID())
    let ids = AuditEntryIDs(secret: secret, team: first)
    let others = [AuditEntryIDs(secret: secret, team: second), AuditEntryIDs(secret: .random(), team: first)]
    var seen: Set<String> = []
    for number in Array(1...500) + [1 << 31, 1 << 32, 1 << 46] {
      let id = ids.id(of: number)
      #expect(try ids.number(of: id) == number)
      #expect(seen.insert(id).inserted)
      // A number that no row has is refused; 1 of 131,072 passes.
      for other in others {
        #expect(other.id(of: number) != id)
        #expect((try? other.number(of: id)) != number)
      }
    }
    let accepted = seen.count { (try? others[0].number(of: $0)) != nil }
    #expect(accepted <= 2)
  }

  @Test("ids of neighbours tell neither the number nor the distance")
  func opaque() throws {
    let ids = AuditEntryIDs(secret: secret, team: TeamID())
    let values = try (1...256).map { try #require(UInt64(ids.id(of: $0), radix: 16)) }
    let differing = zip(values, values.dropFirst()).map { ($0 ^ $1).nonzeroBitCount }
    let mean = Double(differing.reduce(0, +)) / Double(differing.count)
    #expect((28...36).contains(mean), "half of 64 bits on average, but \(mean)")
    #expect(values != values.sorted() && values != values.sorted(by: >))
  }

  @Test(
    "what is no id is refused",
    arguments: ["", "7", "0000000000000007", "00000000000000000", "ZZZZZZZZZZZZZZZZ", "-000000000000001"])
  func malformed(_ text: String) {
    let ids = AuditEntryIDs(secret: secret, team: TeamID())
    let error = #expect(throws: MartletError.self) { try ids.number(of: text) }
    #expect(error?.code == .invalidRequest)
  }
}
