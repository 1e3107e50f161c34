import Foundation
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// How user processes run in a template by default.
struct TemplateDefaults: Sendable {
  var user: String
  var workdir: String
  var envs: [String: String] = [:]
}

extension ImageBuilder {
  /// Runs `body` with a fresh directory that only root can enter, and removes the directory afterwards in every case.
  func withWorkspace<Result: Sendable>(_ body: (FilePath) async throws -> Result) async throws -> Result {
    try Directories.create(workDirectory, mode: 0o700)
    let workspace = workDirectory.appending("build-\(getpid())-\(UUID().uuidString.lowercased())")
    try Directories.create(workspace, mode: 0o700)
    do {
      let result = try await body(workspace)
      try await remove(workspace)
      return result
    } catch {
      try? await remove(workspace)
      throw error
    }
  }

  /// Installs agent, modules and system files in the tree, makes an image of the tree, and publishes the image.
  func assemble(
    _ tree: RootTree, name: SafeName, team: TeamID, defaults: TemplateDefaults, recipe: Int?
  ) async throws -> TemplateImage {
    report(name.value, "adding the guest agent and kernel modules", 0.7)
    try tree.prepareSystem(hostname: "sandbox")
    let agent = try await FileDigest.sha256(of: agentBinary)
    try await install(agentBinary, in: tree, at: GuestContract.agentPath)
    let kernelVersion = try await installModules(in: tree)
    report(name.value, "making the file system", 0.8)
    let content = try await FileSystemImage.measure(tree, deadline: Self.localDeadline)
    let size = FileSystemImage.sizeBytes(for: content)
    guard size <= TemplateManifest.maximumImageBytes else {
      throw MartletError(.tooLarge, "template \(name) is larger than \(TemplateManifest.maximumImageBytes >> 30) GiB")
    }
    try Directories.create(store.building, mode: 0o700)
    let image = store.building.appending("\(UUID().uuidString.lowercased()).ext4")
    // After publishing, the image is no longer at this path.
    defer { unlink(image.string) }
    let identity = "\(team.uuidString)/\(name)/\(agent)"
    try await FileSystemImage.make(tree, at: image, sizeBytes: size, identity: identity, deadline: Self.localDeadline)
    report(name.value, "publishing", 0.95)
    let manifest = TemplateManifest(
      name: name, team: team, digest: try await FileDigest.sha256(of: image), imageSizeBytes: size,
      allocatedBytes: try FileSystemImage.allocatedBytes(of: image), defaultUser: defaults.user,
      defaultWorkdir: defaults.workdir,
      envs: defaults.envs, createdAt: Date(timeIntervalSince1970: Date().timeIntervalSince1970.rounded(.down)),
      agentDigest: agent,
      kernelVersion: kernelVersion, recipe: recipe)
    try await BlockingPool.shared.run { () throws(any Error) in try store.publish(image, as: manifest) }
    report(name.value, "ready", 1)
    return TemplateImage(manifest: manifest, path: store.blobPath(manifest.digest))
  }

  /// Copies an executable of this host into the tree.
  func install(_ executable: FilePath, in tree: RootTree, at path: String) async throws {
    let place = try tree.makePlace(path)
    try await Tool.run("cp", ["--sparse=never", "--", executable.string, place.string], deadline: Self.localDeadline)
      .checked()
    try SystemError.check("chown", place.string) { chown(place.string, 0, 0) }
    try SystemError.check("chmod", place.string) { chmod(place.string, 0o755) }
  }

  func remove(_ path: FilePath) async throws {
    try await BlockingPool.shared.run { () throws(SystemError) in try Directories.removeTree(path) }
  }

  /// Unpacks the guest kernel's modules into /lib/modules of the tree. Returns the kernel's version. If the store has
  /// no kernel, the image has no modules and still boots.
  private func installModules(in tree: RootTree) async throws -> String? {
    guard let (directory, manifest) = try store.currentKernel() else { return nil }
    let archive = directory.appending("modules.tar")
    guard Tool.isReadable(archive.string) else { return manifest.version }
    let path = "/lib/modules/\(manifest.version)"
    try tree.remove(path)
    let place = try tree.makeDirectory(path)
    try await Tool.run(
      "tar", ["-x", "-f", archive.string, "-C", place.string, "--strip-components=1"], deadline: Self.localDeadline
    )
    .checked()
    return manifest.version
  }
}
