import APIClient
import FakeServer
import Foundation
import Model
import Testing

@testable import CommandLine

/// Runs the command line inside this process with files as its standard streams.
struct Invocation {
  struct Outcome: Equatable {
    var code: Int32
    var output: [UInt8]
    var errors: String

    var text: String { String(decoding: output, as: UTF8.self) }
  }

  /// A temporary directory, which is also the working directory.
  static func inDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    return try await body(directory)
  }

  static let services = LocalServices(
    version: "1.2.3", up: { _ in },
    doctor: { _ in [DoctorCheck("images", .ok, "there")] },
    buildTemplate: { TemplateBuildResult(name: $0.name.value, digest: "sha256-0", sizeBytes: 4096) })

  static func run(
    _ arguments: [String], input: [UInt8] = [], environment: [String: String] = [:], local: LocalServices = services
  ) async throws -> Outcome {
    try await inDirectory { directory in
      try Data(input).write(to: URL(filePath: "\(directory)/input"))
      let files = try ["input", "output", "errors"].map { name in
        let descriptor = open("\(directory)/\(name)", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        try #require(descriptor >= 0)
        return descriptor
      }
      defer { for descriptor in files { close(descriptor) } }
      let context = CommandContext(
        environment: environment, workingDirectory: directory, input: files[0], output: files[1], error: files[2])
      let code = await runCommandLine(arguments, local: local, context: context)
      return Outcome(
        code: code, output: [UInt8](try Data(contentsOf: URL(filePath: "\(directory)/output"))),
        errors: try String(contentsOfFile: "\(directory)/errors", encoding: .utf8))
    }
  }

  /// Runs the command line against a server that the environment names.
  static func run(
    _ arguments: [String], input: [UInt8] = [], on server: FakeMartlet, environment: [String: String] = [:]
  ) async throws
    -> Outcome
  {
    try await server.serving { url in
      let variables = ["MARTLET_URL": url, "MARTLET_API_KEY": FakeMartlet.apiKey].merging(environment) { $1 }
      return try await run(arguments, input: input, environment: variables)
    }
  }
}
