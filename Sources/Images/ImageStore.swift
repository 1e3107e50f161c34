import Foundation
import Glibc
import LinuxSystem
package import Model
package import SystemPackage

/// The images of one host, on disk.
///
/// ```
/// blobs/sha256-<hex>.ext4          immutable, sparse, named by content
/// templates/<team-uuid>/<name>.json  the image of a template (TemplateManifest)
/// kernel -> kernels/<id>           vmlinux, initramfs, modules.tar, manifest.json
/// cache/                           prepared root trees, rebuilt when missing
/// building/                        private to the builder that holds build.lock
/// ```
/// Everything is published by rename after fsync: a reader sees the old state or the new one. Lookups read a few small
/// files and are cheap enough for every create. Stores keep no state, so several may use one directory.
package struct ImageStore: Sendable {
  package static let defaultDirectory: FilePath = "/var/lib/martlet/images"
  /// Templates that a listing reads per team; a store with more throws an error instead of using unbounded memory.
  static let maximumTemplatesPerTeam = 10_000

  package let directory: FilePath

  package init(directory: FilePath = defaultDirectory) {
    self.directory = Self.absolute(directory)
  }

  /// Makes a relative path absolute: programs with other working directories use the paths that the store returns.
  static func absolute(_ path: FilePath) -> FilePath {
    guard path.isRelative else { return path }
    return FilePath(FileManager.default.currentDirectoryPath).pushing(path).lexicallyNormalized()
  }

  var blobs: FilePath { directory.appending("blobs") }
  var templates: FilePath { directory.appending("templates") }
  var kernelLink: FilePath { directory.appending("kernel") }
  var kernels: FilePath { directory.appending("kernels") }
  var cache: FilePath { directory.appending("cache") }
  var building: FilePath { directory.appending("building") }

  /// Returns the team's own template of this name, else the platform's.
  ///
  /// - Throws: `not_found` with a sentence that lists the existing templates; `internal` when the store is damaged.
  package func template(_ name: SafeName, team: TeamID) throws(MartletError) -> TemplateImage {
    if team != .platform, let own = try load(name, team: team) { return own }
    if let shared = try load(name, team: .platform) { return shared }
    throw MartletError(.notFound, try missingTemplateSentence(name, team: team))
  }

  /// Returns all intact templates that a team may use, sorted by name; with nil those of all teams. Damaged entries are
  /// left out.
  package func templates(team: TeamID?) throws(MartletError) -> [TemplateImage] {
    let owners: [TeamID] =
      if let team { team == .platform ? [team] : [team, .platform] } else {
        try names(in: templates).compactMap { Self.team(directory: $0) }
      }
    var found: [TemplateImage] = []
    for owner in owners {
      for name in try templateNames(of: owner) {
        if let image = try? load(name, team: owner) { found.append(image) }
      }
    }
    return found.sorted { ($0.name, $0.team) < ($1.name, $1.team) }
  }

  /// Returns the kernel that guests boot. Its paths stay valid while a newer kernel is published.
  ///
  /// - Throws: `not_found` when none was built; `internal` when it is damaged.
  package func guestKernel() throws(MartletError) -> GuestKernel {
    guard let (directory, manifest) = try currentKernel() else {
      throw MartletError(.notFound, "the guest kernel has not been built on this host; `make images` builds it")
    }
    let kernel = GuestKernel(
      vmlinux: directory.appending("vmlinux"), initramfs: directory.appending("initramfs"), version: manifest.version)
    guard Tool.isReadable(kernel.vmlinux.string), Tool.isReadable(kernel.initramfs.string) else {
      throw MartletError(.internalError, "the guest kernel on this host is incomplete; `make images` builds it again")
    }
    return kernel
  }

  func manifestPath(_ name: SafeName, team: TeamID) -> FilePath {
    templates.appending(team.uuidString).appending("\(name).json")
  }

  func blobPath(_ digest: ImageDigest) -> FilePath { blobs.appending(digest.blobName) }

  /// The manifest of this team's template, or nil when the team has none of that name.
  func manifest(_ name: SafeName, team: TeamID) throws(MartletError) -> TemplateManifest? {
    do {
      return try TemplateManifest.parse(
        try SmallFile.read(manifestPath(name, team: team).string), name: name, team: team)
    } catch let error as SystemError where error.errno == .noSuchFileOrDirectory {
      return nil
    } catch {
      throw MartletError(.internalError, "template \(name) is damaged on this host; build it again", cause: error)
    }
  }

  func currentKernel() throws(MartletError) -> (FilePath, KernelManifest)? {
    do {
      guard let target = Self.readLink(kernelLink) else { return nil }
      let directory = self.directory.appending(target)
      return (directory, try KernelManifest.parse(try SmallFile.read(directory.appending("manifest.json").string)))
    } catch {
      throw MartletError(
        .internalError, "the guest kernel on this host is damaged; `make images` builds it again", cause: error)
    }
  }

  func templateNames(of team: TeamID) throws(MartletError) -> [SafeName] {
    let files = try names(in: templates.appending(team.uuidString))
    guard files.count <= Self.maximumTemplatesPerTeam else {
      throw MartletError(
        .internalError, "the team has more than \(Self.maximumTemplatesPerTeam) templates; remove some")
    }
    return files.filter { $0.hasSuffix(".json") }.compactMap { try? SafeName(String($0.dropLast(5))) }.sorted()
  }

  static func team(directory: String) -> TeamID? { TeamID(wire: "team-\(directory)") }

  static func readLink(_ path: FilePath) -> String? {
    var buffer = [CChar](repeating: 0, count: 4_096)
    let count = readlink(path.string, &buffer, buffer.count)
    guard count > 0, count < buffer.count else { return nil }
    return String(decoding: buffer[0..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  func names(in directory: FilePath) throws(MartletError) -> [String] {
    do {
      return try Directories.names(in: directory)
    } catch {
      throw MartletError(.internalError, "the image store on this host cannot be read", cause: error)
    }
  }

  private func load(_ name: SafeName, team: TeamID) throws(MartletError) -> TemplateImage? {
    guard let manifest = try manifest(name, team: team) else { return nil }
    let path = blobPath(manifest.digest)
    var status = stat()
    guard lstat(path.string, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
      Int64(status.st_size) == manifest.imageSizeBytes
    else {
      throw MartletError(
        .internalError, "the image of template \(name) is missing or damaged on this host; build it again")
    }
    return TemplateImage(manifest: manifest, path: path)
  }

  private func missingTemplateSentence(_ name: SafeName, team: TeamID) throws(MartletError) -> String {
    let existing = Set(try templates(team: team).map(\.name.value)).sorted()
    guard !existing.isEmpty else {
      return "template \(name) does not exist, and this host has none at all; `make images` builds the platform's"
    }
    let shown = existing.prefix(20).joined(separator: ", ") + (existing.count > 20 ? ", …" : "")
    return "template \(name) does not exist; there is: \(shown)"
  }
}
