import APIClient
import ArgumentParser

struct CopyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cp", abstract: "Copy files and directories into and out of a sandbox.",
    discussion: """
      One side is SANDBOX:PATH, the other a path on this machine, or - for standard input or output. Directories are
      copied with their contents. A relative PATH starts in the home directory of the sandbox's user.
      """)

  @Argument(help: "File or directory to copy.")
  var source: String
  @Argument(help: "Destination.")
  var destination: String
  @Flag(name: .shortAndLong, help: "Show no progress.")
  var quiet = false
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let context = CommandContext.current
    let (from, to) = (try CopyPath(source), try CopyPath(destination))
    let progress = CopyProgress(console: context.console, isVisible: !quiet && context.console.isErrorTerminal)
    try await connection.withClient { client in
      do {
        switch (from, to) {
        case (.remote(let sandbox, let path), .local), (.remote(let sandbox, let path), .standardStream):
          let id = try await client.resolveSandbox(sandbox)
          try await CopyDownload(client: client, sandbox: id, context: context, progress: progress).run(path, to: to)
        case (.local, .remote(let sandbox, let path)), (.standardStream, .remote(let sandbox, let path)):
          let id = try await client.resolveSandbox(sandbox)
          try await CopyUpload(client: client, sandbox: id, context: context, progress: progress).run(from, to: path)
        default:
          throw APIError(.invalidInput, "one side must be in a sandbox (SANDBOX:PATH) and the other on this machine")
        }
        await progress.end()
      } catch {
        await progress.end()
        throw error
      }
    }
  }
}
