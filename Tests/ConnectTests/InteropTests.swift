import Foundation
import Testing

/// Runs the Connect client from PyPI, an independent implementation, against our server: our own client and server
/// could agree on a mistake.
@Suite("interoperability", .timeLimit(.minutes(2)))
struct InteropTests {
  private static let checkout = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  @Test("the connectrpc package from PyPI can call every kind of method with both codecs")
  func pythonClient() async throws {
    let python = Self.checkout.appending(path: ".venv-test/bin/python").path
    try #require(
      FileManager.default.isExecutableFile(atPath: python),
      "the Python packages for this test are not installed; run `make test` once, which installs them")
    let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Interop/connect_client.py").path
    try await DemoServer.run { server in
      let (status, output) = try await Self.run(python, [script, server.url])
      #expect(status == 0, "\(output)")
      #expect(output.split(separator: "\n").count { $0.hasSuffix("client ok") } == 4, "\(output)")
    }
  }

  private static func run(_ executable: String, _ arguments: [String]) async throws -> (Int32, String) {
    let process = Process()
    process.executableURL = URL(filePath: executable)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    return try await withCheckedThrowingContinuation { continuation in
      process.terminationHandler = { process in
        // The script prints less than the capacity of a pipe.
        let output = String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self)
        continuation.resume(returning: (process.terminationStatus, output))
      }
      do {
        try process.run()
      } catch {
        continuation.resume(throwing: error)
      }
    }
  }
}
