import APIClient
import ArgumentParser

/// Options of every command that talks to a server.
struct ConnectionOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Address of the server (MARTLET_URL).", valueName: "url"))
  var url: String?

  @Option(help: ArgumentHelp("Key to show it (MARTLET_API_KEY).", valueName: "key"))
  var apiKey: String?

  /// Runs `body` with a client for the server that options, environment and files name.
  func withClient<Result: Sendable>(_ body: (APIClient) async throws -> Result) async throws -> Result {
    let settings = try CommandContext.current.settings()
    let discovery = CredentialsDiscovery(environment: settings.merged, foundInDirectory: settings.namesFromFile)
    return try await APIClient.withClient(try discovery.find(url: url, apiKey: apiKey), body)
  }
}

struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON document.")
  var json = false

  /// Prints `value` as JSON, or the text for people.
  func print(_ value: some Encodable, _ text: () -> String) async throws {
    let rendered = json ? try JSONOutput.text(value) : text()
    guard !rendered.isEmpty else { return }
    try await CommandContext.current.console.print(rendered)
  }
}

/// Shape of a sandbox to be created; what is not given is the server's choice.
struct ShapeOptions: ParsableArguments {
  @Option(help: "Template or snapshot to start from (see `martlet template ls` and `martlet snapshot ls`).")
  var template: String?

  @Option(help: ArgumentHelp("Virtual CPUs.", valueName: "n"))
  var vcpus: Int?

  @Option(help: ArgumentHelp("Memory in MiB.", valueName: "mib"))
  var memory: Int?

  @Option(help: ArgumentHelp("Size of the root file system in MiB.", valueName: "mib"))
  var disk: Int?

  func request(
    timeoutSeconds: Int? = nil, metadata: [String: String]? = nil, envs: [String: String]? = nil,
    autoResume: Bool? = nil
  ) -> SandboxRequest {
    SandboxRequest(
      template: template, vcpus: vcpus, memoryMiB: memory, diskSizeMiB: disk, timeoutSeconds: timeoutSeconds,
      metadata: metadata,
      envs: envs, autoResume: autoResume)
  }
}

/// How a command runs.
struct ProcessOptions: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Variable for the command; a name alone takes ours.", valueName: "key=value"))
  var env: [String] = []

  @Option(name: .shortAndLong, help: "User to run as.")
  var user: String?

  @Option(name: .customLong("cwd"), help: ArgumentHelp("Directory to run in.", valueName: "path"))
  var workingDirectory: String?

  @Option(help: ArgumentHelp("Kill the command after this many seconds; 0 is never.", valueName: "seconds"))
  var timeout = 0

  func environment(of context: CommandContext) throws -> [String: String] {
    try KeyValue.map(env, option: "--env") { context.environment[$0] }
  }

  func validate() throws {
    guard timeout >= 0 else { throw ValidationError("--timeout must not be negative") }
  }
}

enum KeyValue {
  /// - Parameter fallback: value for a name without `=`; nil drops it.
  static func map(
    _ texts: [String], option: String, fallback: (String) -> String? = { _ in nil }
  ) throws -> [String: String] {
    var values: [String: String] = [:]
    for text in texts {
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let key = parts.first.map(String.init), !key.isEmpty else {
        throw ValidationError("\(option) takes KEY=VALUE, not '\(text)'")
      }
      guard let value = parts.count == 2 ? String(parts[1]) : fallback(key) else { continue }
      values[key] = value
    }
    return values
  }
}
