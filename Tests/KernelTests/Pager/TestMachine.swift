import Foundation
import Glibc
import LinuxSystem
import Pager
import SystemPackage

/// A `pager-machine` process.
final class TestMachine: Sendable {
  enum Mode: String {
    case anonymous
    case userfault
  }

  let runDirectory: FilePath
  let memoryBytes: Int64
  private let child: ChildProcess
  private let input: OwnedDescriptor
  private let output: OwnedDescriptor

  init(_ mode: Mode, in runDirectory: FilePath, memoryBytes: Int64, shim: FilePath) throws {
    self.runDirectory = runDirectory
    self.memoryBytes = memoryBytes
    let placeholder = runDirectory.appending("placeholder")
    let file = try OwnedDescriptor.open(placeholder.string, O_RDWR | O_CREAT, mode: 0o600)
    try SystemError.check("ftruncate") { ftruncate(file.rawValue, off_t(memoryBytes)) }
    let input = try OwnedDescriptor.pipe()
    let output = try OwnedDescriptor.pipe()
    let error = try OwnedDescriptor.open(
      runDirectory.appending("machine.log").string, O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
    let regions = try OwnedDescriptor.open(
      runDirectory.appending(MemoryRegions.fileName).string, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
    let userfault = try OwnedDescriptor.open("/dev/userfaultfd", O_RDWR)
    child = try ChildProcess.spawn(
      SpawnRequest(
        executable: PagerFixture.product("pager-machine").string, arguments: [placeholder.string, "\(memoryBytes)"],
        environment: [
          "LD_PRELOAD": shim.string, "MARTLET_MEMORY_FILE": placeholder.string, "MARTLET_MEMORY_MODE": mode.rawValue,
          "MARTLET_PAGER_SOCKET": "pager.sock", "MARTLET_MEMORY_REGIONS": "3", "MARTLET_USERFAULT_DEVICE": "4",
        ],
        workingDirectory: runDirectory.string,
        descriptors: [
          0: input.read.rawValue, 1: output.write.rawValue, 2: error.rawValue, 3: regions.rawValue,
          4: userfault.rawValue,
        ]))
    self.input = input.write
    self.output = output.read
    withExtendedLifetime((input.read, output.write, error, regions, userfault)) {}
  }

  deinit {
    child.signal(SIGKILL)
    _ = child.reapBlocking()
  }

  var pid: Int32 { child.pid }
  var errors: String { (try? SmallFile.readText(runDirectory.appending("machine.log").string)) ?? "" }

  /// The response to a command; empty when the machine ended instead.
  func ask(_ command: String) async throws -> String {
    let input = input
    return try await BlockingPool.shared.run { () throws -> String in
      let bytes = Array("\(command)\n".utf8)
      signal(SIGPIPE, SIG_IGN)
      _ = write(input.rawValue, bytes, bytes.count)
      return try self.readLine()
    }
  }

  func line() async throws -> String {
    try await BlockingPool.shared.run { () throws -> String in try self.readLine() }
  }

  /// Ends even if the machine hangs, because the machine has an alarm.
  private func readLine() throws -> String {
    var bytes: [UInt8] = []
    var byte: UInt8 = 0
    while try SystemError.check("read", nil, { read(output.rawValue, &byte, 1) }) == 1, byte != UInt8(ascii: "\n") {
      bytes.append(byte)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  func kill() {
    child.signal(SIGKILL)
  }

  func waitForExit() async -> ExitStatus { await child.wait() }
}
