import APIClient
import ArgumentParser
import Model

struct UpCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "up", abstract: "Run the server on this machine.",
    discussion: "Each option can also be set as a variable in the environment or in .env; options take precedence.")

  @Option(help: ArgumentHelp("Address to listen on (MARTLET_LISTEN, 127.0.0.1:8080).", valueName: "host:port"))
  var listen: String?
  @Option(
    help: ArgumentHelp("Directory of the server's state (MARTLET_DATA_DIR, /var/lib/martlet).", valueName: "path"))
  var dataDir: String?
  @Option(
    help: ArgumentHelp("Directory of the images (MARTLET_IMAGE_DIR, /var/lib/martlet/images).", valueName: "path"))
  var imageDir: String?
  @Option(
    help: ArgumentHelp(
      "PostgreSQL database to use instead of SQLite (DATABASE_URL). Other users of this machine can see options, so "
        + "a password is refused here: set it in PGPASSWORD.", valueName: "url"))
  var databaseURL: String?
  @Option(
    help: ArgumentHelp("Accelerator of the microVMs: auto, kvm or tcg (MARTLET_ACCELERATOR, auto).", valueName: "name"))
  var accelerator: String?
  @Option(
    help: ArgumentHelp(
      "Log level: trace, debug, info, notice, warning, error or critical (MARTLET_LOG_LEVEL, info).", valueName: "level"
    ))
  var logLevel: String?
  @Option(
    help: ArgumentHelp(
      "Number of microVMs that are kept ready for new sandboxes; 0 saves their memory (MARTLET_WARM_POOL, 2).",
      valueName: "number"))
  var warmPool: String?
  @Option(
    help: ArgumentHelp(
      "Private range of the sandboxes' addresses, four to each, that overlaps no route or address of this machine "
        + "(MARTLET_NETWORK_RANGE, 10.200.0.0/16; 10.201.0.0/16 for a second server on this machine, and so on).",
      valueName: "cidr"))
  var networkRange: String?
  @Option(
    help: ArgumentHelp(
      "With a shared database: address on which the host agent listens for the other servers; must be loopback or a "
        + "private network (MARTLET_HOST_LISTEN, 127.0.0.1:0; port 0 chooses a free port).", valueName: "host:port"))
  var hostListen: String?
  @Option(
    help: ArgumentHelp(
      "With a shared database: address to which the other servers connect; port 0 stands for the listening port "
        + "(MARTLET_HOST_ADDRESS, the listen address).",
      valueName: "host:port"))
  var hostAddress: String?

  @Option(
    help: ArgumentHelp(
      "Days for which a host keeps what its database does not know; 0 keeps it for ever (MARTLET_QUARANTINE_DAYS, 30).",
      valueName: "days"))
  var quarantineDays: String?
  @Flag(
    help: ArgumentHelp(
      "Let this host belong to the given database, although it belonged to another one; what the database does not "
        + "know is quarantined."))
  var adopt = false

  @Flag(inversion: .prefixedNo, help: "Run a command in a sandbox once the server is up, and show its output.")
  var demo = true

  private static let logLevels = ["trace", "debug", "info", "notice", "warning", "error", "critical"]

  func run() async throws {
    guard let local = LocalServices.current else { throw ValidationError("this program cannot run a server") }
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
        .invalidInput, "'\(level)' is not a log level; use one of \(Self.logLevels.joined(separator: ", "))")
    }
    let database = try DatabaseChoice(settings: settings, option: databaseURL)
    var access = try AccessOptions(settings)
    access.quarantineDays = try AccessOptions.days(
      settings.value(.quarantineDays, option: quarantineDays), of: .quarantineDays)
    return UpOptions(
      listen: address, dataDirectory: directories.data, imageDirectory: directories.images, database: database,
      accelerator: try choice(settings.value(.accelerator, option: accelerator)), logLevel: level, showsDemo: demo,
      warmPool: try warmPoolSize(settings.value(.warmPool, option: warmPool)),
      networkRange: try settings.networkRange(option: networkRange), access: access,
      host: try HostOptions(settings: settings, listen: hostListen, address: hostAddress, database: database),
      adoptsHost: adopt)
  }

  private func warmPoolSize(_ text: String?) throws -> Int {
    guard let text else { return UpOptions.defaultWarmPoolSize }
    guard let count = Int(text), UpOptions.warmPoolBounds.contains(count) else {
      throw APIError(
        .invalidInput,
        "the size of the warm pool must be a number from \(UpOptions.warmPoolBounds.lowerBound) to "
          + "\(UpOptions.warmPoolBounds.upperBound)"
      )
    }
    return count
  }

  private func choice(_ text: String?) throws -> AcceleratorChoice {
    guard let text else { return .automatic }
    guard let choice = AcceleratorChoice(rawValue: text.lowercased()) else {
      throw APIError(.invalidInput, "'\(text)' is not an accelerator; use auto, kvm or tcg")
    }
    return choice
  }
}

extension Settings {
  /// - Throws: `invalid_input` with the rule that the value breaks.
  func networkRange(option: String? = nil) throws(APIError) -> SandboxNetworkRange? {
    guard let text = value(.networkRange, option: option) else { return nil }
    do {
      return try SandboxNetworkRange(text)
    } catch {
      throw APIError(.invalidInput, error.message)
    }
  }
}

/// Absolute paths of a server's two directories. Servers on one machine share the image directory by default.
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
