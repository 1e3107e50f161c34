import Foundation

/// Describes the files in `kernel/`, as JSON in `kernel/manifest.json`.
///
/// | field | meaning |
/// |---|---|
/// | `format` | 1; a reader refuses any other number |
/// | `version` | kernel release, also the name of the directory in /lib/modules |
/// | `package` | version of the Debian package that contained it |
/// | `recipe` | revision of the build steps (module list, init script) |
/// | `vmlinux_digest`, `initramfs_digest` | SHA-256 of the files in the same directory |
struct KernelManifest: Codable, Equatable, Sendable {
  static let currentFormat = 1
  static let maximumVersionBytes = 128

  var format = currentFormat
  var version: String
  var package: String
  var recipe: Int
  var vmlinuxDigest: ImageDigest
  var initramfsDigest: ImageDigest

  enum CodingKeys: String, CodingKey {
    case format, version, package, recipe
    case vmlinuxDigest = "vmlinux_digest"
    case initramfsDigest = "initramfs_digest"
  }

  static func parse(_ content: [UInt8]) throws(ManifestError) -> KernelManifest {
    let manifest: KernelManifest
    do {
      manifest = try JSONDecoder().decode(KernelManifest.self, from: Data(content))
    } catch {
      throw ManifestError("\(error)")
    }
    guard manifest.format == currentFormat else {
      throw ManifestError("format \(manifest.format) is not \(currentFormat)")
    }
    guard isSafeVersion(manifest.version) else { throw ManifestError("version is not a kernel release") }
    return manifest
  }

  func encoded() throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return Array(try encoder.encode(self))
  }

  /// Whether a kernel release is safe as one path component.
  static func isSafeVersion(_ version: String) -> Bool {
    guard (1...maximumVersionBytes).contains(version.utf8.count), version.utf8.first != UInt8(ascii: ".") else {
      return false
    }
    return version.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "_"), UInt8(ascii: "~"):
        true
      default: false
      }
    }
  }
}
