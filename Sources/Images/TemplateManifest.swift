import Foundation
import Model

/// Describes a template, as JSON in `templates/<team>/<name>.json`.
///
/// | field | meaning |
/// |---|---|
/// | `format` | 1; a reader refuses any other number |
/// | `name`, `team` | must agree with the path of the file |
/// | `digest` | SHA-256 of the image file, holes read as zeros |
/// | `image_size_bytes`, `allocated_bytes` | file system size; bytes on disk when it was published |
/// | `default_user`, `default_workdir`, `envs` | defaults of user processes |
/// | `created_at` | ISO 8601, UTC |
/// | `agent_digest`, `kernel_version`, `recipe` | inputs of the build besides the tree; tell an outdated image |
///
/// Unknown fields are ignored, so that a newer writer may add fields without a new format number.
struct TemplateManifest: Codable, Equatable, Sendable {
  static let currentFormat = 1
  static let maximumBytes = 1_048_576
  /// Larger ext4 images are refused: this is the largest disk that a sandbox may have.
  static let maximumImageBytes = Int64(Limits.diskSizeMiB.upperBound) << 20

  var format = currentFormat
  var name: SafeName
  var team: TeamID
  var digest: ImageDigest
  var imageSizeBytes: Int64
  var allocatedBytes: Int64
  var defaultUser: String
  var defaultWorkdir: String
  var envs: [String: String]
  var createdAt: Date
  var agentDigest: ImageDigest
  var kernelVersion: String?
  var recipe: Int?

  enum CodingKeys: String, CodingKey {
    case format, name, team, digest, envs, recipe
    case imageSizeBytes = "image_size_bytes"
    case allocatedBytes = "allocated_bytes"
    case defaultUser = "default_user"
    case defaultWorkdir = "default_workdir"
    case createdAt = "created_at"
    case agentDigest = "agent_digest"
    case kernelVersion = "kernel_version"
  }

  /// Parses and validates the manifest at the path of `name` and `team`.
  /// - Throws: `ManifestError` when it is not a valid manifest of this template.
  static func parse(_ content: [UInt8], name: SafeName, team: TeamID) throws(ManifestError) -> TemplateManifest {
    guard content.count <= maximumBytes else { throw ManifestError("longer than \(maximumBytes) bytes") }
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    let manifest: TemplateManifest
    do {
      manifest = try decoder.decode(TemplateManifest.self, from: Data(content))
    } catch {
      throw ManifestError("\(error)")
    }
    try manifest.validate(name: name, team: team)
    return manifest
  }

  func encoded() throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return Array(try encoder.encode(self))
  }

  private func validate(name: SafeName, team: TeamID) throws(ManifestError) {
    guard format == Self.currentFormat else { throw ManifestError("format \(format) is not \(Self.currentFormat)") }
    guard self.name == name, self.team == team else { throw ManifestError("it describes another template") }
    guard (1...Self.maximumImageBytes).contains(imageSizeBytes), imageSizeBytes % 4_096 == 0 else {
      throw ManifestError("image_size_bytes is out of bounds")
    }
    guard (0...Self.maximumImageBytes).contains(allocatedBytes) else {
      throw ManifestError("allocated_bytes is out of bounds")
    }
    try Self.checkUser(defaultUser)
    try Self.checkWorkdir(defaultWorkdir)
    do {
      try SandboxSpec.check(envs, "envs", keysAreVariables: true)
    } catch {
      throw ManifestError(error.message)
    }
    guard (kernelVersion?.utf8.count ?? 0) <= KernelManifest.maximumVersionBytes else {
      throw ManifestError("kernel_version is too long")
    }
  }

  static func checkUser(_ user: String) throws(ManifestError) {
    let isSafe = user.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != UInt8(ascii: ":") && $0 != UInt8(ascii: "/") }
    guard (1...Limits.userNameBytes).contains(user.utf8.count), isSafe else {
      throw ManifestError("default_user is not a user name")
    }
  }

  static func checkWorkdir(_ path: String) throws(ManifestError) {
    guard path.hasPrefix("/"), path.utf8.count <= Limits.pathBytes, !path.utf8.contains(where: { $0 < 32 }) else {
      throw ManifestError("default_workdir is not an absolute path")
    }
  }
}

/// The reason why a file of the store is invalid; for the log, never for a tenant.
struct ManifestError: Error, Sendable, Equatable, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}
