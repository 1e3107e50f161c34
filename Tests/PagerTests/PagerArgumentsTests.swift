import Model
import SystemPackage
import Testing

@testable import Pager

@Suite struct PagerArgumentsTests {
  private func configuration(records: Bool = true) -> PagerConfiguration {
    PagerConfiguration(
      id: InstanceID(), store: "/a b/store", generation: GenerationID(), runDirectory: "/run/--owner",
      ownerUID: 2_000_001,
      recordsWorkingSet: records)
  }

  @Test("a command line contains the whole configuration", arguments: [true, false], [Int32?.none, 4_711])
  func roundTrip(_ records: Bool, _ vmm: Int32?) {
    let arguments = PagerArguments(configuration(records: records), vmm: vmm)
    #expect(PagerArguments(arguments.encoded) == arguments)
  }

  @Test("a pager is found by its instance's id, and other processes are not mistaken for it")
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

@Suite struct SavingArgumentsTests {
  private func arguments(parent: GenerationID?) -> SavingArguments {
    SavingArguments(
      store: "/store", draft: GenerationID(), draftDirectory: "/store/drafts/x", runDirectory: "/run/y", vmm: 4_711,
      memoryBytes: 68_719_476_736, parent: parent)
  }

  @Test("a command line contains everything needed to save", arguments: [nil, GenerationID()])
  func roundTrip(_ parent: GenerationID?) {
    let arguments = arguments(parent: parent)
    #expect(SavingArguments(arguments.encoded) == arguments)
    #expect(PagerArguments(arguments.encoded) == nil)
  }

  @Test("an incomplete or changed command line is refused")
  func refusals() {
    let words = arguments(parent: nil).encoded
    for index in words.indices {
      var changed = words
      changed.remove(at: index)
      #expect(SavingArguments(changed) == nil, "without \(words[index])")
    }
    #expect(SavingArguments(words + ["--vmm", "2"]) == nil)
    #expect(SavingArguments(words + ["--parent", "gen-x"]) == nil)
  }

  @Test(
    "a response is decoded unchanged",
    arguments: [
      SavingResponse.saved(SavedMemory(storedPages: 1, zeroedPages: 2, equalPages: 3)),
      .failed(.insufficientStorage, "the host's storage is full"), .failed(.snapshotDamaged, "a b"),
    ])
  func responses(_ response: SavingResponse) {
    #expect(SavingResponse(line: response.line) == response)
    #expect(SavingResponse(line: String(response.line.dropLast())) == nil)
  }

  @Test(
    "an incomplete response is refused",
    arguments: ["", "\n", "saved\n", "saved 1 2\n", "saved 1 2 x\n", "failed nonsense x\n", "x 1 2\n"])
  func nonsense(_ line: String) {
    #expect(SavingResponse(line: line) == nil)
  }
}
