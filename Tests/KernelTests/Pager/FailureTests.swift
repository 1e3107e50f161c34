import Foundation
import Glibc
import LinuxSystem
import Model
import Pager
import Snapshots
import SystemPackage
import Testing

/// A page that cannot be served ends the VM with a reason.
@Suite(.serialized) struct FailureTests {
  static let pages = 2_048

  /// Offset of a page of the memory in the only layer of a generation.
  private func offset(of page: Int, _ generation: Generation, _ fixture: PagerFixture) throws -> Int {
    let image = try MemoryImage.open(generation, in: fixture.store)
    guard case .stored(let stored) = image.source(of: page) else { throw CancellationError() }
    return stored.fileOffset
  }

  private func fullModel(seed: UInt64) -> GuestModel {
    var model = GuestModel(pages: Self.pages)
    model.write(0..<Self.pages, seed: seed)
    return model
  }

  @Test("a damaged page ends the VM before the guest sees it, and the reason names the snapshot")
  func damaged() async throws {
    let fixture = try await PagerFixture()
    let model = fullModel(seed: 1)
    let generation = try fixture.generation(model)
    let file = try OwnedDescriptor.open(generation.memoryPath.string, O_RDWR)
    _ = pwrite(file.rawValue, "x", 1, off_t(try offset(of: 1_000, generation, fixture) + 17))
    let (machine, pager, configuration) = try await fixture.restore(generation)
    #expect(try await machine.ask("sum 0 64") == model.sum(0..<64))
    #expect(try await machine.ask("sum 1000 1") == "")
    #expect(await machine.waitForExit() == .signaled(SIGKILL))
    let failure = try #require(try await pager.waitForExit().failure)
    #expect(failure.contains(generation.id.wire) && failure.contains("memory.layer"))
    #expect(try SmallFile.readText(configuration.runDirectory.appending("pager.failure").string) == failure)
  }

  @Test("a layer truncated under a running VM ends the VM with a reason")
  func truncated() async throws {
    let fixture = try await PagerFixture()
    let model = fullModel(seed: 2)
    let generation = try fixture.generation(model)
    let (machine, pager, _) = try await fixture.restore(generation)
    #expect(try await machine.ask("sum 0 64") == model.sum(0..<64))
    #expect(truncate(generation.memoryPath.string, off_t(try offset(of: 512, generation, fixture))) == 0)
    #expect(try await machine.ask("sum 1500 1") == "")
    #expect(await machine.waitForExit() == .signaled(SIGKILL))
    #expect(try #require(try await pager.waitForExit().failure).contains("cannot be read"))
  }

  @Test("a generation that cannot be opened refuses the VMM, which ends by itself")
  func unopenable() async throws {
    let fixture = try await PagerFixture()
    let generation = try fixture.generation(fullModel(seed: 3))
    #expect(truncate(generation.memoryPath.string, 8_192) == 0)
    let configuration = try fixture.configuration(generation)
    let pager = try await fixture.backend.launch(configuration)
    let machine = try TestMachine(
      .userfault, in: configuration.runDirectory, memoryBytes: generation.manifest.memoryBytes, shim: fixture.shim)
    #expect(await machine.waitForExit() == .exited(1))
    #expect(try #require(try await pager.waitForExit().failure).contains(generation.id.wire))
  }

  @Test("a memory of another size is refused, and its VMM is killed or ends")
  func wrongSize() async throws {
    let fixture = try await PagerFixture()
    let generation = try fixture.generation(fullModel(seed: 4))
    let configuration = try fixture.configuration(generation)
    let pager = try await fixture.backend.launch(configuration)
    let machine = try TestMachine(
      .userfault, in: configuration.runDirectory, memoryBytes: 4_096 * 64, shim: fixture.shim)
    #expect([.signaled(SIGKILL), .exited(1)].contains(await machine.waitForExit()))
    #expect(try #require(try await pager.waitForExit().failure).contains("handed over"))
  }

  /// Invalid hand-shake messages of a VMM, in Python: `s` is its socket, `text` a valid description, `fd` a file.
  static let messages = [
    "s.sendall(text)",
    "socket.send_fds(s, [text], [fd])",
    "socket.send_fds(s, [text], [fd, fd, fd])",
    "socket.send_fds(s, [b'[[[['], [fd])",
    "socket.send_fds(s, [b'[' * 100000], [fd])",
    "s.sendall(b'\\x00')",
  ]

  private func connect(_ message: String, to configuration: PagerConfiguration) throws -> ChildProcess {
    let script = """
      import os, socket, time
      s = socket.socket(socket.AF_UNIX)
      s.connect('pager.sock')
      fd = os.open('/dev/null', os.O_RDONLY)
      text = b'[{"base_host_virt_addr":1048576,"size":\(Self.pages * 4_096),"offset":0,"page_size":4096}]'
      \(message)
      time.sleep(60)
      """
    return try ChildProcess.spawn(
      SpawnRequest(
        executable: "/usr/bin/python3", arguments: ["-c", script], environment: ["PATH": "/usr/bin:/bin"],
        workingDirectory: configuration.runDirectory.string))
  }

  @Test("a VMM that sends an invalid message is killed, and the pager ends with a reason", arguments: messages)
  func hostile(_ message: String) async throws {
    let fixture = try await PagerFixture()
    let configuration = try fixture.configuration(try fixture.generation(fullModel(seed: 5)))
    let pager = try await fixture.backend.launch(configuration)
    let impostor = try connect(message, to: configuration)
    #expect(try #require(try await pager.waitForExit().failure).contains("handed over"))
    #expect(await impostor.wait() == .signaled(SIGKILL))
  }

  @Test("a VMM that dies between connecting and its message ends its pager")
  func diesInHandshake() async throws {
    let fixture = try await PagerFixture()
    let configuration = try fixture.configuration(try fixture.generation(fullModel(seed: 6)))
    let pager = try await fixture.backend.launch(configuration)
    let vmm = try connect("os._exit(3)", to: configuration)
    #expect(await vmm.wait() == .exited(3))
    #expect(try await pager.waitForExit() == PagerExit(failure: nil))
  }

  @Test("a pager whose VMM never connected can be killed at once")
  func neverConnects() async throws {
    let fixture = try await PagerFixture()
    let configuration = try fixture.configuration(try fixture.generation(fullModel(seed: 7)))
    let pager = try await fixture.backend.launch(configuration)
    try await pager.kill()
    #expect(try await pager.waitForExit() == PagerExit(failure: nil))
    #expect(try fixture.backend.findOrphans(of: configuration.id).isEmpty)
  }
}
