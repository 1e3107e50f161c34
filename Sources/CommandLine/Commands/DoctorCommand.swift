import ArgumentParser
import Model

struct DoctorCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Check whether this machine can run sandboxes, and show how to fix what is missing.",
    discussion: "Exits with 69 if sandboxes cannot run on this machine.")

  @Option(help: ArgumentHelp("Directory of the server's state (MARTLET_DATA_DIR).", valueName: "path"))
  var dataDir: String?
  @Option(help: ArgumentHelp("Directory of the images (MARTLET_IMAGE_DIR).", valueName: "path"))
  var imageDir: String?
  @Option(help: ArgumentHelp("Range of the sandboxes' addresses (MARTLET_NETWORK_RANGE).", valueName: "cidr"))
  var networkRange: String?
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let context = CommandContext.current
    let settings = try context.clientSettings()
    let directories = try ServerDirectories(
      settings: settings, dataDirectory: dataDir, imageDirectory: imageDir, context: context)
    var checks = await HostProbes.checks(
      searchPath: context.environment["PATH"], dataDirectory: directories.data, imageDirectory: directories.images)
    if let local = LocalServices.current {
      checks += await local.doctor(
        DoctorOptions(
          dataDirectory: directories.data, imageDirectory: directories.images,
          database: try DatabaseChoice(settings: settings),
          networkRange: try settings.networkRange(option: networkRange)))
    }
    try await output.print(checks, isColored: true) { Self.text(checks, usesColor: context.console.usesColor) }
    if checks.contains(where: { $0.status == .missing }) { throw ExitCode(ErrorCode.hostUnavailable.meaning.exitCode) }
  }

  static func text(_ checks: [DoctorCheck], usesColor: Bool) -> String {
    let width = checks.map(\.name.count).max() ?? 0
    let lines = checks.flatMap { check -> [String] in
      let name = check.name + String(repeating: " ", count: width - check.name.count)
      let indent = String(repeating: " ", count: width + 12)
      let status = check.status.rawValue + String(repeating: " ", count: 8 - check.status.rawValue.count)
      return ["\(name)  \(colored(status, check.status, usesColor))  \(Table.printable(check.finding))"]
        + [
          check.usedInstead.map { "\(indent)used instead: \(Table.printable($0))" },
          check.remedy.map { "\(indent)to do: \(Table.printable($0))" },
        ]
        .compactMap { $0 }
    }
    return (lines + ["", summary(checks)]).joined(separator: "\n")
  }

  private static func summary(_ checks: [DoctorCheck]) -> String {
    let missing = checks.filter { $0.status == .missing }.count
    let degraded = checks.filter { $0.status == .degraded }.count
    guard missing == 0 else { return "Sandboxes cannot run on this machine: \(missing) missing, \(degraded) degraded." }
    return degraded == 0
      ? "This machine has everything that sandboxes need."
      : "Sandboxes can run on this machine; \(degraded) of \(checks.count) checks are degraded."
  }

  private static func colored(_ text: String, _ status: DoctorCheck.Status, _ usesColor: Bool) -> String {
    guard usesColor else { return text }
    let code =
      switch status {
      case .ok: 32
      case .degraded: 33
      case .missing: 31
      }
    return "\u{1B}[\(code)m\(text)\u{1B}[0m"
  }
}
