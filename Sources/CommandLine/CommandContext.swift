import APIClient
import Foundation
import Glibc

/// The environment of a command: variables, working directory, standard streams. Tests replace it.
package struct CommandContext: Sendable {
  @TaskLocal static var current = CommandContext()

  /// Maximum size of the `.env` file.
  static let maximumEnvironmentFileBytes = 64 << 10

  package var environment: [String: String]
  package var workingDirectory: String
  package var input: Int32
  package var console: Console
  /// Decides whether the `.env` of the working directory is read.
  package var trust = EnvironmentFileTrust()

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

  /// Real variables over those of `.env` in the working directory (CFG-1).
  /// - Throws: `invalid_input` when the file is wrong, and when this process is root and other users can change it.
  func settings() throws -> Settings {
    Settings(environment: environment, file: try environmentFile())
  }

  /// The same for commands that a foreign `.env` must not break: one that other users can change is left out, with a
  /// warning.
  func clientSettings() throws -> Settings {
    do {
      return try settings()
    } catch let error as UntrustedEnvironmentFile {
      let line = "martlet: warning: \(error.message)\n"
      _ = Glibc.write(console.error, line, line.utf8.count)
      return Settings(environment: environment, file: [:])
    }
  }

  func absolutePath(_ path: String) -> String {
    URL(filePath: path, relativeTo: URL(filePath: workingDirectory, directoryHint: .isDirectory)).standardizedFileURL
      .path
  }

  private func environmentFile() throws -> [String: String] {
    try trust.check(directory: workingDirectory)
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
