import APIClient
import ArgumentParser
import Model

struct KillCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "kill", abstract: "Destroy sandboxes.", aliases: ["rm"])

  /// Number of concurrent destroy requests.
  private static let concurrency = 8

  @Argument(help: "Ids of sandboxes, or unique prefixes of them.")
  var sandboxes: [String] = []
  @Flag(help: "Destroy all sandboxes of the team.")
  var all = false
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  private struct Report: Encodable, Sendable {
    var destroyed: [String] = []
    var failed: [Failure] = []

    struct Failure: Encodable, Sendable {
      var id: String
      var code: String
      var message: String
    }
  }

  func validate() throws {
    guard all != !sandboxes.isEmpty else { throw ValidationError("name the sandboxes to destroy, or give --all") }
  }

  func run() async throws {
    let (report, firstError) = try await connection.withClient { client in
      var ids: [SandboxID] = all ? try await client.listSandboxes().map(\.id) : []
      for text in sandboxes { ids.append(try await client.resolveSandbox(text)) }
      return try await destroy(ids, client: client)
    }
    try await output.print(report) { report.destroyed.joined(separator: "\n") }
    if !output.json {
      for failure in report.failed {
        await CommandContext.current.console.complain("\(failure.id): \(failure.message)")
      }
    }
    if let firstError { throw ExitCode(firstError.exitCode) }
  }

  /// Destroys all sandboxes, even if some fail.
  private func destroy(_ ids: [SandboxID], client: APIClient) async throws -> (Report, APIError?) {
    try await withThrowingTaskGroup(of: (SandboxID, APIError?).self) { group in
      var waiting = ids[...]
      var report = Report()
      var firstError: APIError?
      for _ in 0..<Self.concurrency {
        if let id = waiting.popFirst() { group.addTask { try await Self.destroy(id, client: client) } }
      }
      while let (id, error) = try await group.next() {
        if let id = waiting.popFirst() { group.addTask { try await Self.destroy(id, client: client) } }
        guard let error else {
          report.destroyed.append(id.wire)
          continue
        }
        firstError = firstError ?? error
        report.failed.append(.init(id: id.wire, code: error.code, message: error.message))
      }
      return (report, firstError)
    }
  }

  private static func destroy(_ id: SandboxID, client: APIClient) async throws -> (SandboxID, APIError?) {
    do {
      try await client.destroySandbox(id)
      return (id, nil)
    } catch let error as APIError {
      return (id, error)
    }
  }
}
