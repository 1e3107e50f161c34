package import CommandLine
import Foundation
import Images
import LinuxSystem
import Model
package import SystemPackage

/// Builds the platform's images and templates in an image directory.
package struct PlatformImages: Sendable {
  private let directory: FilePath

  package init(directory: FilePath) {
    self.directory = directory
  }

  /// Builds images that are missing or contain another version of the guest agent.
  package func ensure(_ progress: @escaping @Sendable (String) -> Void) async throws {
    try await builder(progress).ensure()
  }

  package func buildTemplate(
    _ options: TemplateBuildOptions, _ progress: @escaping @Sendable (String) -> Void
  ) async throws -> TemplateBuildResult {
    let builder = try builder(progress)
    try await builder.ensure()
    // This command needs root, so its templates belong to the platform and every team may use them.
    let template = try await builder.buildTemplate(name: options.name, team: .platform, from: FilePath(options.source))
    return TemplateBuildResult(
      name: template.name.value, digest: template.digest.description, sizeBytes: template.allocatedBytes)
  }

  private func builder(_ progress: @escaping @Sendable (String) -> Void) throws -> ImageBuilder {
    ImageBuilder(store: ImageStore(directory: directory), agentBinary: try InstalledFile.guestAgent.path()) { update in
      let percent = Int((update.fraction * 100).rounded())
      progress("\(update.subject): \(update.step) \(percent) %\(update.detail.map { "  \($0)" } ?? "")")
    }
  }
}
