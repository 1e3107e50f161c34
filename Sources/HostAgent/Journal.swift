import Foundation
import GRDB
import LinuxSystem
package import Model
package import SystemPackage

/// The agent's memory across its own death: one row per sandbox, written before the sandbox's first resource exists.
///
/// SQLite in WAL mode with `synchronous=NORMAL`: a commit survives the death of the process at any point; the newest ones may be lost
/// when the machine itself fails, and then no VMM is left either.
package final class Journal: Sendable {
  private let database: DatabaseQueue

  /// Opens the journal, making it when it is not there.
  package init(path: FilePath) throws {
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.busyMode = .timeout(5)
    configuration.prepareDatabase { try $0.execute(sql: "PRAGMA synchronous = NORMAL") }
    database = try DatabaseQueue(path: path.string, configuration: configuration)
    var migrator = DatabaseMigrator()
    migrator.registerMigration("0001_sandboxes") { database in
      try database.execute(
        sql: """
          CREATE TABLE sandbox (
            id TEXT PRIMARY KEY NOT NULL,
            slot INTEGER NOT NULL UNIQUE,
            entry TEXT NOT NULL
          ) STRICT
          """)
    }
    try migrator.migrate(database)
    // The entries hold the guests' access tokens.
    for suffix in ["", "-wal", "-shm"] { chmod(path.string + suffix, 0o600) }
  }

  package func entries() async throws -> [JournalEntry] {
    let rows = try await database.read { try String.fetchAll($0, sql: "SELECT entry FROM sandbox ORDER BY slot") }
    return try rows.map { try JSONDecoder().decode(JournalEntry.self, from: Data($0.utf8)) }
  }

  /// - Throws: when the id or the slot is there already.
  package func insert(_ entry: JournalEntry) async throws {
    let text = try Self.text(entry)
    try await database.write { database in
      try database.execute(
        sql: "INSERT INTO sandbox (id, slot, entry) VALUES (?, ?, ?)", arguments: [entry.id.uuidString, entry.slot, text])
    }
  }

  package func update(_ entry: JournalEntry) async throws {
    let text = try Self.text(entry)
    try await database.write { database in
      try database.execute(sql: "UPDATE sandbox SET entry = ? WHERE id = ?", arguments: [text, entry.id.uuidString])
    }
  }

  /// An entry that is not there is fine.
  package func remove(_ id: SandboxID) async throws {
    try await database.write { try $0.execute(sql: "DELETE FROM sandbox WHERE id = ?", arguments: [id.uuidString]) }
  }

  private static func text(_ entry: JournalEntry) throws -> String {
    String(decoding: try JSONEncoder().encode(entry), as: UTF8.self)
  }
}
