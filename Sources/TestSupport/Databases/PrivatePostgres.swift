import Foundation
import Glibc
import LinuxSystem
import Logging
import Persistence

/// A PostgreSQL server for tests. `scripts/private-postgres` runs it, and stops it and removes its files whenever this
/// process ends.
package final class PrivatePostgres: Sendable {
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// The server that all tests of a process share which do not stop or harm it.
  package static let shared = Task { try await PrivatePostgres.start() }

  private static let script = URL(filePath: #filePath).deletingLastPathComponent().appending(
    path: "../../../scripts/private-postgres"
  )
  .standardizedFileURL.path

  private let socketDirectory: String
  private let child: ChildProcess
  private let commands: OwnedDescriptor
  private let responses: OwnedDescriptor

  private init(socketDirectory: String, child: ChildProcess, commands: OwnedDescriptor, responses: OwnedDescriptor) {
    self.socketDirectory = socketDirectory
    self.child = child
    self.commands = commands
    self.responses = responses
  }

  package static func start() async throws -> PrivatePostgres {
    let (childInput, commands) = try OwnedDescriptor.pipe()
    let (responses, childOutput) = try OwnedDescriptor.pipe()
    var request = SpawnRequest(
      executable: script, environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"],
      descriptors: [0: childInput.rawValue, 1: childOutput.rawValue, 2: 2])
    request.createsSession = true
    let child = try ChildProcess.spawn(request)
    childInput.close()
    childOutput.close()
    guard let line = await readLine(responses), let host = line.split(separator: "host=").last,
      line.hasPrefix("postgres://")
    else {
      throw Failure(description: "the private PostgreSQL did not start (\(await child.wait()))")
    }
    return PrivatePostgres(socketDirectory: String(host), child: child, commands: commands, responses: responses)
  }

  package func url(database: String) -> String { "postgres://martlet@/\(database)?host=\(socketDirectory)" }

  /// Kills all processes of the server with SIGKILL.
  package func kill() async throws { try await command("kill") }

  package func restart() async throws { try await command("start") }

  package func stop() async {
    commands.close()
    _ = await child.wait()
  }

  /// Creates a database.
  /// - Parameter template: the database to copy, which must have no connections; nil creates an empty one.
  /// - Returns: the name of the database.
  package func makeDatabase(from template: String? = nil) async throws -> String {
    let name = "test_\(UUID().uuidString.prefix(8).lowercased())"
    try await administrate("CREATE DATABASE \(name) TEMPLATE \(template ?? "template0")")
    return name
  }

  /// Restores a dump of one database into another, which is empty.
  package func dump(_ name: String, into copy: String) async throws {
    let dump = try await dump(name)
    try await restore(dump, into: copy)
  }

  /// What pg_dump writes about a database.
  package func dump(_ name: String) async throws -> String {
    try await Tool.run(
      "pg_dump", ["--dbname", url(database: name), "--no-owner"], deadline: .seconds(60), outputLimit: 64 << 20
    ).checked().outputText
  }

  package func restore(_ dump: String, into name: String) async throws {
    _ = try await Tool.run(
      "psql", ["--dbname", url(database: name), "--quiet", "--set", "ON_ERROR_STOP=1"], input: dump,
      deadline: .seconds(60)
    ).checked()
  }

  package func dropDatabase(_ name: String) async throws {
    try await administrate("DROP DATABASE \(name) WITH (FORCE)")
  }

  private func administrate(_ statement: String) async throws {
    var configuration = try PostgresConfiguration(url: url(database: "postgres"))
    configuration.maximumConnections = 1
    let database = PostgresDatabase(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    do {
      try await database.query { connection in
        try connection.executeScript("SET default_transaction_read_only = off")
        try connection.executeScript(statement)
      }
    } catch {
      try await database.close()
      throw error
    }
    try await database.close()
  }

  private func command(_ name: String) async throws {
    let line = Array("\(name)\n".utf8)
    guard write(commands.rawValue, line, line.count) == line.count, await Self.readLine(responses) == "done" else {
      throw Failure(description: "the private PostgreSQL did not \(name)")
    }
  }

  private static func readLine(_ descriptor: OwnedDescriptor) async -> String? {
    await BlockingPool.shared.run { () -> String? in
      var line: [UInt8] = []
      var byte: UInt8 = 0
      while read(descriptor.rawValue, &byte, 1) == 1 {
        guard byte != UInt8(ascii: "\n") else { return String(decoding: line, as: UTF8.self) }
        line.append(byte)
      }
      return nil
    }
  }
}
