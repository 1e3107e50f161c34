import Foundation
import Glibc
import LinuxSystem
import Model
import Pager
import Snapshots
import SystemPackage
import Testing

/// Pagers and savers give up their privileges before they look at anything that a VMM says.
@Suite(.serialized) struct ConfinementTests {
  static let pages = 1_024
  private static let none = "0000000000000000"

  private func status(of pid: Int32) throws -> [String: String] {
    var fields: [String: String] = [:]
    for line in try SmallFile.readText("/proc/\(pid)/status").split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      fields[String(parts[0])] = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : ""
    }
    return fields
  }

  private func expectConfined(_ pid: Int32, capabilities: String) async throws {
    try await eventually("the filter is there") { try status(of: pid)["Seccomp"] == "2" }
    let fields = try status(of: pid)
    #expect(fields["CapEff"] == capabilities && fields["CapPrm"] == capabilities)
    for name in ["CapInh", "CapBnd", "CapAmb"] { #expect(fields[name] == Self.none, "\(name)") }
    #expect(fields["NoNewPrivs"] == "1")
    #expect(try Directories.names(in: FilePath("/proc/\(pid)/root")) == [])
    let limits = try SmallFile.readText("/proc/\(pid)/limits")
    let core = limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") }
    #expect(core?.split(whereSeparator: \.isWhitespace).dropFirst(4).prefix(2).elementsEqual(["0", "0"]) == true)
    // Not dumpable: what is in /proc is root's.
    #expect(try FileStatus.of("/proc/\(pid)/environ", followingLinks: false)?.ownerUID == 0)
  }

  @Test(
    "a pager has its VMM's user, no capability, no file and a filter before its VMM connects")
  func pager() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 1)
    var configuration = try fixture.configuration(try fixture.generation(model))
    configuration.ownerUID = 2_345_678
    let pager = try await fixture.backend.launch(configuration)
    try await expectConfined(pager.identity.pid, capabilities: Self.none)
    #expect(try status(of: pager.identity.pid)["Uid"] == "2345678\t2345678\t2345678\t2345678")
    #expect(try status(of: pager.identity.pid)["Groups"] == "")
    let machine = try await fixture.start(.userfault, in: configuration.runDirectory, memoryBytes: model.memoryBytes)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    machine.kill()
    #expect(try await pager.waitForExit() == PagerExit(failure: nil))
  }

  @Test("a successor is confined like the first")
  func successor() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 2)
    let (machine, first, configuration) = try await fixture.restore(try fixture.generation(model))
    try await first.kill()
    let second = try await fixture.backend.replace(configuration, vmm: machine.pid)
    try await expectConfined(second.identity.pid, capabilities: Self.none)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    machine.kill()
    #expect(try await second.waitForExit() == PagerExit(failure: nil))
  }

  @Test("a saver keeps the right to read memory, and the filter leaves it that of its VMM")
  func saver() async throws {
    let fixture = try await PagerFixture()
    let run = try fixture.runDirectory()
    let machine = try await fixture.start(.anonymous, in: run, memoryBytes: Int64(Self.pages * 4_096))
    let draft = try fixture.store.begin(GenerationID())
    let saving = try await fixture.backend.prepareSaving(
      vmm: machine.pid, runDirectory: run, memoryBytes: machine.memoryBytes, parent: nil, into: draft)
    let pid = try #require(
      try ProcessTable.pids().first { pid in
        let arguments = try ProcessTable.arguments(of: pid)
        return arguments.contains("save") && arguments.contains(run.string)
      })
    // CAP_SYS_PTRACE
    try await expectConfined(pid, capabilities: "0000000000080000")
    _ = try await saving.run()
    machine.kill()
  }
}
