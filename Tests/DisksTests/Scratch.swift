import Foundation
import LinuxSystem
import Model
import SystemPackage

@testable import Disks

/// A temporary directory, removed with the value.
final class Scratch: Sendable {
  let path: FilePath

  init() throws {
    path = FilePath(FileManager.default.temporaryDirectory.path).appending("martlet-disks-\(UUID().uuidString)")
    try Directories.create(path)
  }

  deinit {
    try? Directories.removeTree(path)
  }

  /// A sparse raw image whose 4 KiB block `n` holds the byte `n + 1`, for `blocks` blocks at its start.
  func image(_ name: String = "base.ext4", sizeBytes: Int64, blocks: Int = 4) throws -> FilePath {
    let file = path.appending(name)
    let content = (0..<blocks).reduce(into: Data()) { $0.append(Data(repeating: UInt8($1 + 1), count: 4_096)) }
    try content.write(to: URL(fileURLWithPath: file.string))
    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file.string))
    try handle.truncate(atOffset: UInt64(sizeBytes))
    try handle.close()
    return file
  }

  func create(over base: FilePath, sizeBytes: Int64, id: SandboxID = SandboxID()) async throws -> Disk {
    try await QcowOverlays().create(
      name: id.uuidString, base: base, sizeBytes: sizeBytes, directory: path, ownerUID: geteuid())
  }

  var names: [String] { get throws { try Directories.names(in: path).sorted() } }
}

enum QemuTools {
  /// Runs commands of qemu-io(1) on a disk.
  @discardableResult
  static func io(_ disk: Disk, _ commands: [String]) async throws -> String {
    let output = try await Tool.run(
      "qemu-io", ["-f", disk.format.rawValue] + commands.flatMap { ["-c", $0] } + [disk.path.string]
    ).checked().outputText
    guard !output.contains("fail"), !output.contains("error") else {
      throw ToolError("qemu-io", .failed(.exited(1), output))
    }
    return output
  }

  static func info(_ disk: Disk) async throws -> String {
    try await Tool.run("qemu-img", ["info", "--output=json", disk.path.string]).checked().outputText
  }

  static func check(_ disk: Disk) async throws -> String {
    try await Tool.run("qemu-img", ["check", disk.path.string]).checked().outputText
  }
}
