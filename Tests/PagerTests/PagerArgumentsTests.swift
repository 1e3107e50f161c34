import Model
import SystemPackage
import Testing

@testable import Pager

@Suite struct PagerArgumentsTests {
  private func configuration(records: Bool = true) -> PagerConfiguration {
    PagerConfiguration(
      id: InstanceID(), store: "/a b/store", generation: GenerationID(), runDirectory: "/run/--owner", ownerUID: 2_000_001,
      recordsWorkingSet: records)
  }

  @Test("a command line says all that the configuration does", arguments: [true, false], [Int32?.none, 4_711])
  func roundTrip(_ records: Bool, _ vmm: Int32?) {
    let arguments = PagerArguments(configuration(records: records), vmm: vmm)
    #expect(PagerArguments(arguments.encoded) == arguments)
  }

  @Test("a pager is found by its instance's id, nothing else is taken for one")
  func matching() {
    let configuration = configuration()
    let words = ["/proc/self/exe"] + PagerArguments(configuration).encoded
    #expect(PagerArguments.matches(words, configuration.id))
    #expect(!PagerArguments.matches(words, InstanceID()))
    #expect(!PagerArguments.matches(["martlet", "info", configuration.id.wire], configuration.id))
    #expect(!PagerArguments.matches([], configuration.id))
  }

  @Test("an incomplete or changed command line is refused")
  func refusals() {
    let words = PagerArguments(configuration(records: false), vmm: 1).encoded
    #expect(PagerArguments(words) != nil)
    for index in words.indices {
      var changed = words
      changed.remove(at: index)
      #expect(PagerArguments(changed) == nil, "without \(words[index])")
    }
    #expect(PagerArguments(words + ["--more", "x"]) == nil)
    #expect(PagerArguments(words.map { $0 == "1" ? "-" : $0 }) == nil)
  }
}
