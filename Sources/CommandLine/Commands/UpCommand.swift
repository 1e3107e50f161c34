import APIClient
import ArgumentParser

struct UpCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "up", abstract: "Run the server on this machine.",
    discussion: "Every option can be given as a variable, in the environment or in .env; options win over both.")

  @Option(help: ArgumentHelp("Address to listen on (MARTLET_LISTEN, 127.0.0.1:8080).", valueName: "host:port"))
  var listen: String?
  @Option(help: ArgumentHelp("Where state is kept (MARTLET_DATA_DIR, /var/lib/martlet).", valueName: "path"))
  var dataDir: String?
  @Option(help: ArgumentHelp("Where images are kept (MARTLET_IMAGE_DIR, /var/lib/martlet/images).", valueName: "path"))
  var imageDir: String?
  @Option(
    help: ArgumentHelp(
      "PostgreSQL to use instead of SQLite in the data directory (DATABASE_URL); others on this machine can see options, so give the "
        + "password as PGPASSWORD.", valueName: "url"))
  var databaseURL: String?
  @Option(help: ArgumentHelp("auto, kvm or tcg (MARTLET_ACCELERATOR, auto).", valueName: "name"))
  var accelerator: String?
  @Option(
    help: ArgumentHelp("trace, debug, info, notice, warning or error (MARTLET_LOG_LEVEL, info).", valueName: "level"))
  var logLevel: String?
  @Option(
    help: ArgumentHelp(
      "MicroVMs kept running for sandboxes to come; 0 saves their memory (MARTLET_WARM_POOL, 2).", valueName: "number"))
  var warmPool: String?
  @Option(
    help: ArgumentHelp(
      "With a shared database: where other servers reach this one's sandboxes; loopback or a private network "
        + "(MARTLET_HOST_LISTEN, 127.0.0.1:0, any free port).", valueName: "host:port"))
  var hostListen: String?
  @Option(
    help: ArgumentHelp(
      "What other servers are told to connect to; port 0 is the one that is listened on (MARTLET_HOST_ADDRESS, where it listens).",
      valueName: "host:port"))
  var hostAddress: String?

  @Flag(inversion: .prefixedNo, help: "Run a command in a sandbox once the server is up, and show it.")
  var demo = true

  private static let logLevels = ["trace", "debug", "info", "notice", "warning", "error", "critical"]

  func run() async throws {
    guard let local = LocalServices.current else { throw ValidationError("this program cannot serve") }
    try await local.up(try options(CommandContext.current))
  }

  func options(_ context: CommandContext) throws -> UpOptions {
    let settings = try context.settings()
    try settings.refuseUnknownNames()
    let directories = try ServerDirectories(
      settings: settings, dataDirectory: dataDir, imageDirectory: imageDir, context: context)
    let address = try settings.value(.listen, option: listen).map { text in try ListenAddress(text) } ?? .standard
    let level = settings.value(.logLevel, option: logLevel)?.lowercased() ?? "info"
    guard Self.logLevels.contains(level) else {
      throw APIError(
        .invalidInput, "'\(level)' is not a log level; known are \(Self.logLevels.joined(separator: ", "))")
    }
    let database = try DatabaseChoice(settings: settings, option: databaseURL)
    return UpOptions(
      listen: address, dataDirectory: directories.data, imageDirectory: directories.images, database: database,
      accelerator: try choice(settings.value(.accelerator, option: accelerator)), logLevel: level, showsDemo: demo,
      warmPool: try warmPoolSize(settings.value(.warmPool, option: warmPool)), access: try AccessOptions(settings),
      host: try HostOptions(settings: settings, listen: hostListen, address: hostAddress, database: database))
  }

  private func warmPoolSize(_ text: String?) throws -> Int {
    guard let text else { return UpOptions.defaultWarmPoolSize }
    guard let count = Int(text), UpOptions.warmPoolBounds.contains(count) else {
      throw APIError(
        .invalidInput,
        "the warm pool must be a number from \(UpOptions.warmPoolBounds.lowerBound) to \(UpOptions.warmPoolBounds.upperBound)"
      )
    }
    return count
  }

  private func choice(_ text: String?) throws -> AcceleratorChoice {
    guard let text else { return .automatic }
    guard let choice = AcceleratorChoice(rawValue: text.lowercased()) else {
      throw APIError(.invalidInput, "'\(text)' is not an accelerator; known are auto, kvm and tcg")
    }
    return choice
  }
}

/// The two directories of a server, absolute. Servers with data of their own share the images unless told otherwise.
struct ServerDirectories: Sendable, Equatable {
  static let defaultImageDirectory = "/var/lib/martlet/images"

  let data: String
  let images: String

  init(settings: Settings, dataDirectory: String? = nil, imageDirectory: String? = nil, context: CommandContext) throws
  {
    data = context.absolutePath(
      settings.value(.dataDirectory, option: dataDirectory) ?? CredentialsDiscovery.defaultDataDirectory)
    images = context.absolutePath(settings.value(.imageDirectory, option: imageDirectory) ?? Self.defaultImageDirectory)
  }
}
