import Foundation
import LinuxSystem
package import Model
package import SystemPackage

/// Builds the guest kernel and templates and publishes them in an image store.
///
/// Needs root and these programs of the distribution: mkfs.ext4, tar, gzip, find, du, busybox (static), dpkg-deb,
/// apt-get, apt-cache, the decompressors lz4, xz and zstd, and for `base` mmdebstrap. One builder works on a store at a
/// time; others wait. A build that fails or is cancelled leaves the store's templates and kernel unchanged; the next
/// build removes its leftovers.
package struct ImageBuilder: Sendable {
  /// How long to wait for another builder.
  static let lockDeadline: Duration = .seconds(1_800)
  /// Deadline of tools that only move data on this host.
  static let localDeadline: Duration = .seconds(900)
  /// Deadline of tools that download.
  static let downloadDeadline: Duration = .seconds(2_400)
  /// Incremented when the steps that build platform images change, so that `ensure()` builds them again.
  static let minimalRecipe = 2
  static let baseRecipe = 2
  static let kernelRecipe = 3

  let store: ImageStore
  let agentBinary: FilePath
  let workDirectory: FilePath
  let progress: @Sendable (BuildProgress) -> Void

  /// - Parameters:
  ///   - agentBinary: executable of the static guest agent, installed in every image.
  ///   - workDirectory: where trees are unpacked; nil means inside the store.
  ///   - progress: called from any thread, in order per build.
  package init(
    store: ImageStore, agentBinary: FilePath, workDirectory: FilePath? = nil,
    progress: @escaping @Sendable (BuildProgress) -> Void = { _ in }
  ) {
    self.store = store
    self.agentBinary = ImageStore.absolute(agentBinary)
    self.workDirectory = workDirectory.map(ImageStore.absolute) ?? store.building
    self.progress = progress
  }

  /// Builds the kernel, `minimal` and `base` if they are missing or out of date; otherwise takes milliseconds.
  ///
  /// - Returns: the names of what was built, in order.
  @discardableResult
  package func ensure() async throws(MartletError) -> [String] {
    try await locked("the platform images could not be built") {
      var built: [String] = []
      if try await isKernelOutdated() {
        try await makeKernel()
        built.append("kernel")
      }
      let agent = try await FileDigest.sha256(of: agentBinary)
      if try isOutdated(.minimal, recipe: Self.minimalRecipe, agent: agent) {
        _ = try await makeMinimal()
        built.append(SafeName.minimal.value)
      }
      if try isOutdated(.base, recipe: Self.baseRecipe, agent: agent) {
        _ = try await makeBase()
        built.append(SafeName.base.value)
      }
      return built
    }
  }

  /// Builds the platform template `minimal`: busybox only, from files of this host.
  @discardableResult
  package func buildMinimal() async throws(MartletError) -> TemplateImage {
    try await locked("template minimal could not be built") { try await makeMinimal() }
  }

  /// Builds a template from any root file system tree.
  ///
  /// - Parameters:
  ///   - source: a directory, which is not modified, or a tar archive (plain, gzip, xz or zstd).
  ///   - envs: environment of every user process in its sandboxes.
  /// - Throws: `invalid_request` when the source is not a root file system or the name is a platform template's.
  @discardableResult
  package func buildTemplate(
    name: SafeName, team: TeamID, from source: FilePath, envs: [String: String] = [:]
  ) async throws(MartletError) -> TemplateImage {
    guard ![.minimal, .base].contains(name) else {
      throw MartletError(.invalidRequest, "template name \(name) belongs to the platform; choose another")
    }
    try SandboxSpec.check(envs, "envs", keysAreVariables: true)
    return try await locked("template \(name) could not be built") {
      try await makeTemplate(name: name, team: team, source: source, envs: envs)
    }
  }

  func report(_ subject: String, _ step: String, _ fraction: Double, _ detail: String? = nil) {
    progress(BuildProgress(subject: subject, step: step, fraction: fraction, detail: detail))
  }

  private func isKernelOutdated() async throws -> Bool {
    guard let (directory, manifest) = try? store.currentKernel(), manifest.recipe == Self.kernelRecipe else {
      return true
    }
    let needed = ["vmlinux", "initramfs", "modules.tar"]
    return !needed.allSatisfy { Tool.isReadable(directory.appending($0).string) }
  }

  private func isOutdated(_ name: SafeName, recipe: Int, agent: ImageDigest) throws -> Bool {
    guard let manifest = try? store.manifest(name, team: .platform), (try? store.template(name, team: .platform)) != nil
    else {
      return true
    }
    let kernel = try store.currentKernel()?.1.version
    return manifest.recipe != recipe || manifest.agentDigest != agent || manifest.kernelVersion != kernel
  }

  /// Runs a build under the store's lock, after removing leftovers of interrupted builds, and maps errors to
  /// `MartletError`.
  private func locked<Result: Sendable>(
    _ sentence: String, _ body: () async throws -> Result
  ) async throws(MartletError) -> Result {
    do {
      guard let lock = try await StoreLock.acquire(store.lockPath, within: Self.lockDeadline) else {
        throw MartletError(.deadlineExceeded, "another build of images did not end in time; try again")
      }
      defer { lock.release() }
      try await BlockingPool.shared.run { () throws(SystemError) in try Directories.removeTree(store.building) }
      return try await body()
    } catch {
      throw Self.mappedError(error, sentence)
    }
  }

  private static func mappedError(_ error: any Error, _ sentence: String) -> MartletError {
    if let error = error as? MartletError { return error }
    if error is CancellationError { return MartletError(.canceled, "the build was canceled", cause: error) }
    if let error = error as? ToolError {
      switch error.reason {
      case .notInstalled:
        return MartletError(
          .internalError, "\(sentence): the program \(error.executable) is not installed on this host", cause: error)
      case .canceled: return MartletError(.canceled, "the build was canceled", cause: error)
      case .deadlineExceeded:
        return MartletError(.deadlineExceeded, "\(sentence): \(error.executable) did not end in time", cause: error)
      case .spawn, .system, .failed: break
      }
    }
    if let error = error as? SystemError, error.errno == .noSpace {
      return MartletError(.insufficientStorage, "\(sentence): the host's disk is full", cause: error)
    }
    return MartletError(.internalError, "\(sentence); the log has the details", cause: error)
  }
}
