import CommandLine
import Foundation
import LinuxSystem
import Model
import SystemPackage

/// Prints the welcome text once the server is up: the output of a command in a sandbox, and the next steps.
///
/// The demonstration uses this program's own CLI, so that the user can repeat it.
struct Welcome: Sendable {
  private static let deadline: Duration = .seconds(180)

  let options: UpOptions
  let storedCredentials: StoredCredentials
  let report: StepReport

  func show(port: Int) async {
    let program = CommandLine.arguments.first ?? "martlet"
    let url = ListenAddress(host: options.listen.host, port: port).clientURL
    if options.showsDemo { await demonstrate(url: url) }
    report.line(
      """

      Martlet serves on \(url)
        browser       \(url)/test, and \(url)/docs for the API
        credentials   \(credentials(program))
        try           \(program) run --template base -- python3 -c 'print(2**100)'
                      \(program) shell --template base
                      \(program) doctor
        stop          Ctrl-C (sandboxes continue to run; the next start adopts them)
      """)
  }

  private func credentials(_ program: String) -> String {
    if let path = storedCredentials.existing { return path.string }
    return
      "not stored here, because the database already had users; create another administrator "
      + "with \(program) user create --admin --local --email EMAIL"
  }

  private func demonstrate(url: String) async {
    let environment = [
      "PATH": "/usr/bin:/bin", "HOME": "/root", "MARTLET_DATA_DIR": options.dataDirectory, "MARTLET_URL": url,
    ]
    do {
      let output = try await report.step("a sandbox that runs uname -a") { _ in
        try await Tool.run(
          "/proc/self/exe", ["run", "--", "uname", "-a"], environment: environment, deadline: Self.deadline
        ).checked()
      }
      report.line("    \(output.outputText.trimmingCharacters(in: .whitespacesAndNewlines))")
    } catch {
      report.line(
        "    the sandbox did not run: \(error)\n"
          + "    run \(CommandLine.arguments.first ?? "martlet") doctor to see what is missing"
      )
    }
  }
}
