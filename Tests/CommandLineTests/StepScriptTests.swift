import Foundation
import LinuxSystem
import Testing

/// `scripts/step`, which `make` runs its steps with.
@Suite("scripts/step") struct StepScriptTests {
  private static let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/step").path

  private func run(
    _ command: String, interval: Int = 1
  ) async throws -> (lines: [String], status: LinuxSystem.ExitStatus) {
    let output = try await Tool.run(
      Self.script, ["a step", "sh", "-c", command],
      environment: ["PATH": "/usr/bin:/bin", "STEP_INTERVAL": "\(interval)"], deadline: .seconds(60))
    return (output.outputText.split(separator: "\n").map(String.init), output.status)
  }

  @Test("without a terminal a step is announced when it starts, and a build says how far it is")
  func progress() async throws {
    let (lines, status) = try await run("echo '[7/61] Compiling'; sleep 2.5; echo '[51/61] Linking'; sleep 2.5")
    #expect(status == .exited(0))
    #expect(lines.first == "  … a step")
    #expect(lines.contains { $0.hasPrefix("  … a step  7 of 61  ") && $0.hasSuffix(" s") }, "\(lines)")
    #expect(lines.contains { $0.hasPrefix("  … a step  51 of 61  ") }, "\(lines)")
    #expect(lines.last?.hasPrefix("  ✓ a step  ") == true)
  }

  @Test("a step without such lines prints its beginning and its end; one that fails what it said, and its status")
  func failure() async throws {
    let quiet = try await run("sleep 1.5")
    #expect(quiet.lines.count == 2)
    let failed = try await run("echo reason; exit 3")
    #expect(failed.status == .exited(3))
    #expect(failed.lines.contains { $0.contains("✗ a step failed") && $0.contains("exit 3") })
    #expect(failed.lines.last == "reason")
  }
}
