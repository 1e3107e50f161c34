import APIClient
import Foundation

/// The environment of a command: variables, working directory, standard streams. Tests replace it.
package struct CommandContext: Sendable {
  @TaskLocal static var current = CommandContext()

  /// Maximum size of the `.env` file.
  static let maximumEnvironmentFileBytes = 64 << 10

  package var environment: [String: String]
  package var workingDirectory: String
  package var input: Int32
  package var console: Console

  package init(
    environment: [String: String] = ProcessInfo.processInfo.environment,
    workingDirectory: String = FileManager.default.currentDirectoryPath, input: Int32 = 0, output: Int32 = 1,
    error: Int32 = 2
  ) {
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.input = input
    console = Console(output: output, error: error, allowsColor: environment["NO_COLOR", default: ""].isEmpty)
  }

  /// The environment variables, with those of `.env` in the working directory below them.
  func settings() throws -> Settings {
    Settings(environment: environment, file: try environmentFile())
  }

  func absolutePath(_ path: String) -> String {
    URL(filePath: path, relativeTo: URL(filePath: workingDirectory, directoryHint: .isDirectory)).standardizedFileURL
      .path
  }

  private func environmentFile() throws -> [String: String] {
    switch CredentialsDiscovery.readFile(absolutePath(".env")) {
    case .missing, .unreadable: return [:]
    case .data(let data):
      guard data.count <= Self.maximumEnvironmentFileBytes else {
        throw APIError(.invalidInput, ".env is larger than \(Self.maximumEnvironmentFileBytes >> 10) KiB")
      }
      return try EnvironmentFile.parse(String(decoding: data, as: UTF8.self))
    }
  }
}
