import APIClient
import ArgumentParser
import Model

struct InfoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "info", abstract: "Show all properties of a sandbox.")

  @Argument(help: "Id of the sandbox, or a unique prefix of it.")
  var sandbox: String
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await connection.withClient { client in
      let resource = try await client.sandbox(try await client.resolveSandbox(sandbox))
      try await output.print(resource) { Self.text(resource) }
    }
  }

  private static func pausedBy(_ sandbox: SandboxResource) -> String? {
    guard sandbox.status == SandboxStatus.paused.rawValue, let autoPaused = sandbox.autoPaused else { return nil }
    return autoPaused ? "idle time-out" : "request"
  }

  static func text(_ sandbox: SandboxResource) -> String {
    let metadata = (sandbox.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(
      separator: " ")
    let facts: [(String, String?)] = [
      ("id", sandbox.id.wire), ("status", sandbox.status), ("reason", sandbox.error), ("template", sandbox.template),
      ("vcpus", sandbox.vcpus.map(String.init)), ("memory", sandbox.memoryMiB.map { "\($0) MiB" }),
      ("disk", sandbox.diskSizeMiB.map { "\($0) MiB" }),
      ("pauses after", sandbox.timeoutSeconds.map { $0 == 0 ? "never" : "\($0) s idle" }),
      ("paused by", pausedBy(sandbox)), ("auto-resume", sandbox.autoResume.map { $0 ? "yes" : "no" }),
      ("isolation", sandbox.isolation.map { "\($0.vmm), \($0.accelerator)" }), ("guest address", sandbox.guestIP),
      ("host address", sandbox.hostIP), ("host", sandbox.hostID), ("metadata", metadata.isEmpty ? nil : metadata),
      ("created", sandbox.createdAt), ("started", sandbox.startedAt), ("last active", sandbox.lastActiveAt),
      ("last updated", sandbox.lastUpdated),
    ]
    return facts.compactMap { name, value in
      value.map { name + String(repeating: " ", count: 15 - name.count) + Table.printable($0) }
    }.joined(separator: "\n")
  }
}
