import APIClient
import ArgumentParser
import Foundation
import Model

struct TemplateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "template", abstract: "List and build templates.", subcommands: [List.self, Build.self])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List templates.", aliases: ["list"])

    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      try await connection.withClient { client in
        let templates = try await client.listTemplates(type: "base")
        try await output.print(templates) { Self.table(templates).rendered }
      }
    }

    static func table(_ templates: [TemplateResource]) -> Table {
      Table(
        header: ["NAME", "OWNER", "SIZE", "AGE"],
        rows: templates.map { template in
          [
            template.name, template.platform == true ? "platform" : "team",
            template.sizeBytes.map(Formatting.bytes) ?? "-",
            Formatting.age(since: template.createdAt),
          ]
        })
    }
  }

  struct Build: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "build", abstract: "Build a template on this machine from a root file system.")

    @Argument(help: "Name of the template.")
    var name: String
    @Option(help: ArgumentHelp("Directory or tar file with the root file system.", valueName: "path"))
    var from: String
    @Option(help: ArgumentHelp("Directory of the images (MARTLET_IMAGE_DIR).", valueName: "path"))
    var imageDir: String?
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let context = CommandContext.current
      let name = try SafeName(name, what: "the name of a template")
      let source = context.absolutePath(from)
      guard FileManager.default.fileExists(atPath: source) else {
        throw APIError(.invalidInput, "\(from) does not exist; --from takes a directory or a tar file")
      }
      let directories = try ServerDirectories(
        settings: try context.settings(), imageDirectory: imageDir, context: context)
      guard let local = LocalServices.current else { throw ValidationError("this program cannot build templates") }
      let result = try await local.buildTemplate(
        TemplateBuildOptions(name: name, source: source, imageDirectory: directories.images))
      try await output.print(result) { "\(result.name)  \(Formatting.bytes(result.sizeBytes))  \(result.digest)" }
    }
  }
}
