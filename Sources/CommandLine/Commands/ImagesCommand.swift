import ArgumentParser

struct ImagesCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "images",
    abstract: "Build the guest kernel and the platform templates that are missing on this machine.",
    discussion: "martlet up does the same when it starts.")

  @Option(
    help: ArgumentHelp("Directory of the images (MARTLET_IMAGE_DIR, /var/lib/martlet/images).", valueName: "path"))
  var imageDir: String?

  func run() async throws {
    guard let local = LocalServices.current else { throw ValidationError("this program cannot build images") }
    let context = CommandContext.current
    let directories = try ServerDirectories(
      settings: try context.settings(), imageDirectory: imageDir, context: context)
    try await local.buildImages(directories.images)
  }
}
