import Foundation
import Testing

@testable import Model

@Suite struct IdentifierTests {
  @Test("an id survives a round trip through its wire form")
  func roundTrip() {
    let id = SandboxID()
    #expect(SandboxID(wire: id.wire) == id)
    #expect(id.wire.hasPrefix("sb-"))
  }

  @Test(
    "malformed ids are refused",
    arguments: [
      "", "sb-", "sb-1", "5f0c1d9e-0000-4000-8000-000000000000", "team-5f0c1d9e-0000-4000-8000-000000000000",
      "sb-5F0C1D9E-0000-4000-8000-000000000000", "sb-5f0c1d9e-0000-4000-8000-000000000000\n",
      "sb-5f0c1d9e-0000-4000-8000-00000000000g",
      "sb-../../../../../../../../../../etc/passwd",
    ])
  func malformed(text: String) {
    #expect(SandboxID(wire: text) == nil)
  }
}

@Suite struct UUIDTextTests {
  @Test("the text of a UUID equals Foundation's in lower case, and is parsed back")
  func roundTrip() {
    for uuid in (0..<100).map({ _ in UUID() }) {
      let text = UUIDText.string(uuid)
      #expect(text == uuid.uuidString.lowercased())
      #expect(UUIDText.parse(text[...]) == uuid)
    }
  }

  @Test(
    "any other text is refused",
    arguments: [
      "", "5f0c1d9e00004000800000000000000000000", "5F0c1d9e-0000-4000-8000-000000000000",
      "5f0c1d9e-0000-4000-8000-00000000000g",
      "5f0c1d9e-0000-4000-80000-00000000000", "5f0c1d9e-0000-4000-8000-0000000000000",
      "5f0c1d9e-0000-4000-8000-00000000000-",
      "5f0c1d9é-0000-4000-8000-00000000000",
    ])
  func refused(text: String) {
    #expect(UUIDText.parse(text[...]) == nil)
  }
}

@Suite struct SafeNameTests {
  @Test("safe names are accepted", arguments: ["a", "base", "python-3.11_x", "0", String(repeating: "a", count: 64)])
  func accepted(text: String) throws {
    #expect(try SafeName(text).value == text)
  }

  @Test(
    "names that could escape a path or a command are refused",
    arguments: ["", ".", "..", "-a", "_a", "a/b", "a b", "a\n", "ä", "a\0", String(repeating: "a", count: 65)])
  func refused(text: String) {
    #expect(throws: MartletError.self) { try SafeName(text) }
  }
}

@Suite struct SandboxStatusTests {
  @Test("nothing follows stopped")
  func stoppedIsFinal() {
    #expect(SandboxStatus.allCases.allSatisfy { !SandboxStatus.stopped.canBecome($0) })
  }

  @Test("every state but stopped and destroying can be destroyed")
  func destroyWins() {
    for status in SandboxStatus.allCases where status != .stopped && status != .destroying {
      #expect(status.canBecome(.destroying), "\(status)")
    }
  }

  @Test("a missing sandbox becomes running, paused or stopped")
  func missingIsReversible() {
    for next in [SandboxStatus.running, .paused, .stopped] { #expect(SandboxStatus.missing.canBecome(next)) }
    #expect(!SandboxStatus.missing.canBecome(.pending))
  }

  @Test("no state is skipped on the way to running")
  func noShortcuts() {
    #expect(!SandboxStatus.pending.canBecome(.running))
    #expect(!SandboxStatus.paused.canBecome(.pausing))
    #expect(!SandboxStatus.error.canBecome(.running))
  }
}

@Suite struct SandboxSpecTests {
  private func specification(_ change: (inout SandboxSpec) -> Void) -> SandboxSpec {
    var spec = SandboxSpec(teamID: TeamID())
    change(&spec)
    return spec
  }

  @Test("the defaults are valid")
  func defaults() throws {
    try SandboxSpec(teamID: TeamID()).validate()
  }

  @Test("numbers out of bounds are refused with the field's name")
  func numbers() {
    let cases: [(String, (inout SandboxSpec) -> Void)] = [
      ("vcpus", { $0.vcpus = 0 }), ("vcpus", { $0.vcpus = 10_000 }), ("vcpus", { $0.vcpus = -1 }),
      ("memory_mb", { $0.memoryMiB = -512 }),
      ("memory_mb", { $0.memoryMiB = .max }), ("disk_size_mb", { $0.diskSizeMiB = 0 }),
      ("timeout_sec", { $0.timeoutSeconds = -1 }),
    ]
    for (field, change) in cases {
      let error = #expect(throws: MartletError.self) { try specification(change).validate() }
      #expect(error?.code == .invalidRequest)
      #expect(error?.message.contains(field) == true)
    }
  }

  @Test("maps are bounded, and environment keys can be variables")
  func maps() {
    let tooMany = Dictionary(uniqueKeysWithValues: (0...Limits.mapEntries).map { ("k\($0)", "v") })
    #expect(throws: MartletError.self) { try specification { $0.metadata = tooMany }.validate() }
    #expect(throws: MartletError.self) { try specification { $0.envs = ["A=B": "c"] }.validate() }
    #expect(throws: MartletError.self) { try specification { $0.envs = ["A": "\0"] }.validate() }
    #expect(throws: MartletError.self) { try specification { $0.envs = ["": "x"] }.validate() }
    #expect(throws: MartletError.self) { try specification { $0.network.allow = ["10.0.0.1/8"] }.validate() }
  }
}

@Suite struct IPv4Tests {
  @Test(
    "addresses and networks survive a round trip",
    arguments: ["0.0.0.0/0", "10.0.0.0/8", "192.168.1.4/32", "1.2.3.4/32"])
  func roundTrip(text: String) {
    #expect(IPv4Network(text)?.description == text)
  }

  @Test(
    "ambiguous addresses are refused",
    arguments: [
      "1.2.3", "01.2.3.4", "1.2.3.256", "1.2.3.4/33", "1.2.3.4/", "10.1.0.0/8", "1.2.3.4/8/8", "a.b.c.d", "1.2.3.+4",
      "::1", "",
    ])
  func refused(text: String) {
    #expect(IPv4Network(text) == nil)
  }
}

@Suite struct ErrorTableTests {
  @Test("codes are in snake_case and have a mapping for every interface")
  func codes() {
    for code in ErrorCode.allCases {
      #expect(code.rawValue.allSatisfy { $0.isLowercase || $0 == "_" })
      #expect((400...599).contains(code.meaning.httpStatus))
      #expect(code.meaning.exitCode != 0)
    }
  }

  @Test("an unexpected error reveals nothing of its cause")
  func wrapping() {
    struct Secret: Error, CustomStringConvertible { let description = "SELECT password FROM users" }
    let error = MartletError.wrapping(Secret())
    #expect(error.code == .internalError)
    #expect(!error.message.contains("SELECT"))
    #expect(error.description.contains("SELECT"))
  }
}
