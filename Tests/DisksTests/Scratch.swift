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
    let base = DiskBase(path: base, format: .raw, digest: base.stem ?? base.string)
    return try await QcowOverlays().create(name: id.uuidString, base: base, sizeBytes: sizeBytes, directory: path)
  }

  var names: [String] { get throws { try Directories.names(in: path).sorted() } }
}

/// QEMU's tools on a chain of files, the uppermost first. What lies below each is said, as headers do not.
enum QemuTools {
  /// The name of the chain for QEMU: options as JSON.
  static func name(_ files: [(path: FilePath, format: DiskFormat)]) -> String {
    guard let file = files.first else { return "null" }
    let own = #"{"driver":"\#(file.format.rawValue)","file":{"driver":"file","filename":"\#(file.path.string)"}"#
    return own + (file.format == .qcow2 ? #","backing":\#(name(Array(files.dropFirst())))}"# : "}")
  }

  /// Runs commands of qemu-io(1) on a disk over its base, or over `layers`.
  @discardableResult
  static func io(
    _ disk: Disk, over layers: [(path: FilePath, format: DiskFormat)]? = nil, _ commands: [String]
  ) async throws -> String {
    let chain = [(disk.path, disk.format)] + (layers ?? [(disk.base.path, disk.base.format)])
    let output = try await Tool.run(
      "qemu-io", commands.flatMap { ["-c", $0] } + ["json:" + name(chain.map { (path: $0.0, format: $0.1) })]
    ).checked().outputText
    guard !output.contains("fail"), !output.contains("error") else {
      throw ToolError("qemu-io", .failed(.exited(1), output))
    }
    return output
  }

  static func info(_ path: FilePath) async throws -> String {
    try await Tool.run("qemu-img", ["info", "--output=json", path.string]).checked().outputText
  }

  static func check(_ path: FilePath) async throws -> String {
    try await Tool.run("qemu-img", ["check", path.string]).checked().outputText
  }
}
