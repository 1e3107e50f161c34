package import CommandLine
import Foundation
import Images
import LinuxSystem
import Model
package import SystemPackage

/// The images in a directory, as the commands of this machine use them.
package struct PlatformImages: Sendable {
  private let directory: FilePath

  package init(directory: FilePath) {
    self.directory = directory
  }

  /// Builds what is missing or made with another guest agent.
  package func ensure(_ progress: @escaping @Sendable (String) -> Void) async throws {
    try await builder(progress).ensure()
  }

  package func buildTemplate(
    _ options: TemplateBuildOptions, _ progress: @escaping @Sendable (String) -> Void
  ) async throws -> TemplateBuildResult {
    let builder = try builder(progress)
    try await builder.ensure()
    // Whoever is root here decides for the whole platform, so every team may use what it builds.
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
