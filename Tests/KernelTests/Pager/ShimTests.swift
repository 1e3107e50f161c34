import Foundation
import LinuxSystem
import Model
import Pager
import SystemPackage
import Testing

/// The library that is preloaded into QEMU, in a program that maps its memory as QEMU does.
@Suite(.serialized) struct ShimTests {
  @Test("the library depends on the C library only")
  func dependencies() async throws {
    let fixture = try await PagerFixture()
    let output = try await Tool.run("/usr/bin/readelf", ["-d", fixture.shim.string]).checked().outputText
    let needed = output.split(separator: "\n").filter { $0.contains("NEEDED") }
    #expect(needed.count == 1 && needed.allSatisfy { $0.contains("libc.so.6") }, "\(needed)")
  }

  @Test("booted memory is anonymous and described in a file, and the placeholder stays empty")
  func anonymous() async throws {
    let fixture = try await PagerFixture()
    let run = try fixture.runDirectory()
    let machine = try await fixture.start(.anonymous, in: run, memoryBytes: 4_096 * 1_024)
    _ = try await machine.ask("write 0 100 1")
    let path = run.appending("memory-regions.json").string
    let regions = try MemoryRegions(parsing: try SmallFile.read(path), memoryBytes: 4_096 * 1_024)
    #expect(try await machine.ask("where") == "\(regions.regions[0].address)")
    #expect(try FileStatus.of(path, followingLinks: false)?.mode == 0o600)
    #expect(try Data(contentsOf: URL(filePath: run.appending("placeholder").string)).allSatisfy { $0 == 0 })
    #expect(UserFaultDescriptor.number(in: machine.pid) == nil)
    machine.kill()
  }

  @Test("the library's variables do not reach the program")
  func environment() async throws {
    let fixture = try await PagerFixture()
    let machine = try await fixture.start(.anonymous, in: try fixture.runDirectory(), memoryBytes: 4_096 * 64)
    #expect(try await machine.ask("environment").trimmingCharacters(in: .whitespaces) == "- - - - -")
    machine.kill()
  }

  @Test("without a pager there is no memory, and the VMM ends")
  func noPager() async throws {
    let fixture = try await PagerFixture()
    let machine = try TestMachine(
      .userfault, in: try fixture.runDirectory(), memoryBytes: 4_096 * 64, shim: fixture.shim)
    #expect(await machine.waitForExit() == .exited(1))
    #expect(machine.errors.contains("pager"))
  }
}
