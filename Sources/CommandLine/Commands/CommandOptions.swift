import APIClient
import ArgumentParser

/// Options of every command that connects to a server with an API key.
struct ConnectionOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Address of the server (MARTLET_URL, http://127.0.0.1:8080).", valueName: "url"))
  var url: String?

  @Option(help: ArgumentHelp("API key (MARTLET_API_KEY).", valueName: "key"))
  var apiKey: String?

  /// Runs `body` with a client for the server and API key found in options, environment and files.
  func withClient<Result: Sendable>(_ body: (APIClient) async throws -> Result) async throws -> Result {
    let settings = try CommandContext.current.clientSettings()
    let discovery = CredentialsDiscovery(environment: settings.merged, namesFromDotEnv: settings.namesFromFile)
    return try await APIClient.withClient(try discovery.find(url: url, apiKey: apiKey), body)
  }
}

struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON document.")
  var json = false

  /// Prints `value` as JSON, or the text for people, in which nothing but line breaks controls the terminal.
  /// - Parameter isColored: whether the text has colours of ours; then it is printed as it is.
  func print(_ value: some Encodable, isColored: Bool = false, _ text: () -> String) async throws {
    let rendered = json ? try JSONOutput.text(value) : isColored ? text() : Table.printableLines(text())
    guard !rendered.isEmpty else { return }
    try await CommandContext.current.console.print(rendered)
  }
}

/// Template and shape of a new sandbox; the server chooses values that are not given.
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

/// Options of a command in a sandbox.
struct ProcessOptions: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "Environment variable of the command; a name alone copies the local value.", valueName: "key=value"))
  var env: [String] = []

  @Option(name: .shortAndLong, help: "User in the sandbox that runs the command.")
  var user: String?

  @Option(name: .customLong("cwd"), help: ArgumentHelp("Working directory of the command.", valueName: "path"))
  var workingDirectory: String?

  @Option(help: ArgumentHelp("Kill the command after this many seconds; 0 for no time-out.", valueName: "seconds"))
  var timeout = 0

  func environment(of context: CommandContext) throws -> [String: String] {
    try KeyValue.map(env, option: "--env") { context.environment[$0] }
  }

  func validate() throws {
    guard timeout >= 0 else { throw ValidationError("--timeout must not be negative") }
  }
}

enum KeyValue {
  /// Parses `KEY=VALUE` texts.
  /// - Parameter fallback: the value for a name without `=`; nil omits the name.
  static func map(
    _ texts: [String], option: String, fallback: (String) -> String? = { _ in nil }
  ) throws -> [String: String] {
    var values: [String: String] = [:]
    for text in texts {
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let key = parts.first.map(String.init), !key.isEmpty else {
        throw ValidationError("\(option) takes KEY=VALUE, but '\(text)' has no key")
      }
      guard let value = parts.count == 2 ? String(parts[1]) : fallback(key) else { continue }
      values[key] = value
    }
    return values
  }
}
