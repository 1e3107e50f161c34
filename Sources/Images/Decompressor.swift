import Glibc
import LinuxSystem
import SystemPackage

/// Decompresses a file into another file with the program for its format.
struct Decompressor {
  private let compression: KernelImage.Compression

  init(_ compression: KernelImage.Compression) {
    self.compression = compression
  }

  func run(from source: FilePath, to target: FilePath, deadline: Duration) async throws {
    switch compression {
    case .lz4:
      try await Tool.run("lz4", ["-d", "-f", "-q", source.string, target.string], deadline: deadline).checked()
    case .zstd:
      try await Tool.run("zstd", ["-d", "-f", "-q", "-o", target.string, source.string], deadline: deadline).checked()
    case .gzip, .xz: try await unpackBeside(source, target, deadline)
    }
  }

  /// These programs name their output by stripping the suffix of the input.
  private func unpackBeside(_ source: FilePath, _ target: FilePath, _ deadline: Duration) async throws {
    let suffix = compression == .gzip ? ".gz" : ".xz"
    try SystemError.check("rename", source.string) { rename(source.string, target.string + suffix) }
    try await Tool.run(compression.rawValue, ["-d", "-f", "-q", target.string + suffix], deadline: deadline).checked()
  }
}
