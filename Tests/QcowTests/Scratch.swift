import Foundation
import Glibc
import LinuxSystem
import SystemPackage

@testable import Qcow

/// A reproducible random number generator. Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators
/// (SplitMix64).
struct Seeded: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}

/// A directory of a test's own with qcow2 files over an image, removed with the value.
final class Scratch: Sendable {
  static let sizeBytes: Int64 = 16 << 20

  let path: FilePath

  init() throws {
    path = FilePath(FileManager.default.temporaryDirectory.path).appending("martlet-qcow-\(UUID().uuidString)")
    try Directories.create(path)
    try Data((0..<64).flatMap { [UInt8](repeating: UInt8($0 + 1), count: 65_536) }).write(
      to: URL(fileURLWithPath: path.appending("base").string))
  }

  deinit {
    try? Directories.removeTree(path)
  }

  /// An empty overlay.
  func overlay(_ name: String, sizeBytes: Int64 = sizeBytes) throws -> FilePath {
    let file = path.appending(name)
    var bytes = [UInt8](repeating: 0, count: Int(QcowHeader.emptyFileBytes))
    for piece in QcowHeader.emptyOverlay(sizeBytes: sizeBytes) {
      bytes.replaceSubrange(Int(piece.offset)..<(Int(piece.offset) + piece.bytes.count), with: piece.bytes)
    }
    try Data(bytes).write(to: URL(fileURLWithPath: file.string))
    return file
  }

  func layer(_ file: FilePath, sizeBytes: Int64? = sizeBytes) throws -> QcowLayer {
    try QcowLayer(try OwnedDescriptor.open(file.string, O_RDONLY), sizeBytes: sizeBytes)
  }

  /// The name of the chain for QEMU's tools, the uppermost file first, over the image.
  func chain(_ files: [FilePath]) -> String {
    "json:"
      + files.reversed().reduce(#"{"driver":"raw","file":{"driver":"file","filename":"\#(path)/base"}}"#) {
        #"{"driver":"qcow2","discard":"unmap","file":{"driver":"file","filename":"\#($1)"},"backing":\#($0)}"#
      }
  }

  func write(_ commands: [String], to files: [FilePath]) async throws {
    let output = try await Tool.run("qemu-io", commands.flatMap { ["-c", $0] } + [chain(files)]).checked()
    guard !output.outputText.contains("fail") else {
      throw ToolError("qemu-io", .failed(.exited(1), output.outputText))
    }
  }

  /// What a guest would read.
  func content(_ files: [FilePath]) async throws -> Data {
    let raw = path.appending("raw-\(UUID().uuidString)")
    defer { unlink(raw.string) }
    try await Tool.run("qemu-img", ["convert", "-O", "raw", chain(files), raw.string]).checked()
    return try Data(contentsOf: URL(fileURLWithPath: raw.string))
  }

  func bytes(_ file: FilePath) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: file.string)))
  }

  /// Overwrites a part of a file in place, as a captured VMM can.
  func patch(_ file: FilePath, _ offset: Int, _ bytes: [UInt8]) throws {
    let descriptor = try OwnedDescriptor.open(file.string, O_WRONLY)
    try SystemError.check("pwrite") { pwrite(descriptor.rawValue, bytes, bytes.count, offset) }
  }
}
