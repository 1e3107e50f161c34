import Foundation
import GRDB
import LinuxSystem
package import Model
package import SystemPackage

/// The host agent's persistent record: sandboxes, their microVMs, named snapshots and template snapshots.
///
/// An entry is written before its first resource exists. SQLite in WAL mode with `synchronous=NORMAL`: a commit
/// survives the death of the process at any point; the newest commits may be lost in a power failure. A paused sandbox
/// must not be lost even then; it is written with `updateDurably`.
package final class Journal: Sendable {
  private let database: DatabaseQueue

  /// Opens the journal, and creates it if it does not exist.
  package init(path: FilePath) throws {
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.busyMode = .timeout(5)
    configuration.prepareDatabase { try $0.execute(sql: "PRAGMA synchronous = NORMAL") }
    // The entries hold the guests' access tokens. SQLite gives the files beside it the same mode.
    try SmallFile.reservePrivate(path.string)
    database = try DatabaseQueue(path: path.string, configuration: configuration)
    try Self.migrator.migrate(database)
  }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("0002_instances") { database in
      try database.execute(
        sql: """
          DROP TABLE IF EXISTS sandbox;
          CREATE TABLE sandbox (id TEXT PRIMARY KEY NOT NULL, entry TEXT NOT NULL) STRICT;
          CREATE TABLE instance (
            id TEXT PRIMARY KEY NOT NULL, slot INTEGER NOT NULL UNIQUE, entry TEXT NOT NULL
          ) STRICT;
          CREATE TABLE named_snapshot (
            team TEXT NOT NULL, name TEXT NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (team, name)
          ) STRICT;
          CREATE TABLE template_snapshot (key TEXT PRIMARY KEY NOT NULL, entry TEXT NOT NULL) STRICT;
          """)
    }
    migrator.registerMigration("0003_quarantine") { database in
      try database.execute(
        sql: "CREATE TABLE quarantined_snapshot (generation TEXT PRIMARY KEY NOT NULL, entry TEXT NOT NULL) STRICT")
    }
    return migrator
  }

  // MARK: Sandboxes

  package func sandboxes() async throws -> [SandboxEntry] {
    try await entries("SELECT entry FROM sandbox ORDER BY id")
  }

  /// - Throws: when the id exists already.
  package func insert(_ entry: SandboxEntry) async throws {
    try await write("INSERT INTO sandbox (id, entry) VALUES (?, ?)", entry.id.uuidString, entry)
  }

  package func update(_ entry: SandboxEntry) async throws {
    let text = try Self.text(entry)
    try await write("UPDATE sandbox SET entry = ? WHERE id = ?", [text, entry.id.uuidString])
  }

  /// Returns when the change is on stable storage.
  package func updateDurably(_ entry: SandboxEntry) async throws {
    let text = try Self.text(entry)
    try await writeDurably { database in
      try database.execute(sql: "UPDATE sandbox SET entry = ? WHERE id = ?", arguments: [text, entry.id.uuidString])
    }
  }

  /// Removes an entry; an absent one is success.
  package func remove(_ id: SandboxID) async throws {
    try await write("DELETE FROM sandbox WHERE id = ?", [id.uuidString])
  }

  // MARK: Instances

  package func instances() async throws -> [InstanceEntry] {
    try await entries("SELECT entry FROM instance ORDER BY slot")
  }

  /// - Throws: when the id or the slot exists already.
  package func insert(_ entry: InstanceEntry) async throws {
    let text = try Self.text(entry)
    try await write("INSERT INTO instance (id, slot, entry) VALUES (?, ?, ?)", [entry.id.uuidString, entry.slot, text])
  }

  package func update(_ entry: InstanceEntry) async throws {
    let text = try Self.text(entry)
    try await write("UPDATE instance SET entry = ? WHERE id = ?", [text, entry.id.uuidString])
  }

  package func remove(_ id: InstanceID) async throws {
    try await write("DELETE FROM instance WHERE id = ?", [id.uuidString])
  }

  // MARK: Snapshots

  package func namedSnapshots() async throws -> [NamedSnapshotEntry] {
    try await entries("SELECT entry FROM named_snapshot ORDER BY team, name")
  }

  package func upsert(_ entry: NamedSnapshotEntry) async throws {
    let text = try Self.text(entry)
    try await write(
      "INSERT INTO named_snapshot (team, name, entry) VALUES (?, ?, ?) "
        + "ON CONFLICT (team, name) DO UPDATE SET entry = excluded.entry",
      [entry.teamID.uuidString, entry.name.value, text])
  }

  package func removeNamedSnapshot(_ name: SafeName, team: TeamID) async throws {
    try await write("DELETE FROM named_snapshot WHERE team = ? AND name = ?", [team.uuidString, name.value])
  }

  package func quarantinedSnapshots() async throws -> [NamedSnapshotEntry] {
    try await entries("SELECT entry FROM quarantined_snapshot ORDER BY generation")
  }

  /// Moves a named snapshot into quarantine. Returns when the change is on stable storage.
  package func quarantine(_ entry: NamedSnapshotEntry) async throws {
    let text = try Self.text(entry)
    try await writeDurably { database in
      try database.execute(
        sql: "DELETE FROM named_snapshot WHERE team = ? AND name = ?",
        arguments: [entry.teamID.uuidString, entry.name.value])
      try database.execute(
        sql: "INSERT OR REPLACE INTO quarantined_snapshot (generation, entry) VALUES (?, ?)",
        arguments: [entry.generation.uuidString, text])
    }
  }

  /// Moves a snapshot out of quarantine, under the name in `entry`. Returns when the change is on stable storage.
  /// - Throws: when the name is taken.
  package func release(_ entry: NamedSnapshotEntry) async throws {
    let text = try Self.text(entry)
    try await writeDurably { database in
      try database.execute(
        sql: "INSERT INTO named_snapshot (team, name, entry) VALUES (?, ?, ?)",
        arguments: [entry.teamID.uuidString, entry.name.value, text])
      try database.execute(
        sql: "DELETE FROM quarantined_snapshot WHERE generation = ?", arguments: [entry.generation.uuidString])
    }
  }

  package func removeQuarantinedSnapshot(_ id: GenerationID) async throws {
    try await write("DELETE FROM quarantined_snapshot WHERE generation = ?", [id.uuidString])
  }

  package func templateSnapshots() async throws -> [TemplateSnapshotEntry] {
    try await entries("SELECT entry FROM template_snapshot ORDER BY key")
  }

  package func upsert(_ entry: TemplateSnapshotEntry) async throws {
    let text = try Self.text(entry)
    try await write(
      "INSERT INTO template_snapshot (key, entry) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET entry = excluded.entry",
      [entry.key.text, text])
  }

  package func remove(_ key: TemplateSnapshotKey) async throws {
    try await write("DELETE FROM template_snapshot WHERE key = ?", [key.text])
  }

  // MARK: Shared

  private func entries<Entry: Decodable & Sendable>(_ sql: String) async throws -> [Entry] {
    let rows = try await database.read { try String.fetchAll($0, sql: sql) }
    return try rows.map { try JSONDecoder().decode(Entry.self, from: Data($0.utf8)) }
  }

  private func write(_ sql: String, _ id: String, _ entry: some Encodable) async throws {
    try await write(sql, [id, try Self.text(entry)])
  }

  private func write(_ sql: String, _ arguments: StatementArguments) async throws {
    try await database.write { try $0.execute(sql: sql, arguments: arguments) }
  }

  /// Runs `body` in a transaction that is on stable storage when this returns.
  private func writeDurably(_ body: @escaping @Sendable (GRDB.Database) throws -> Void) async throws {
    try await database.writeWithoutTransaction { database in
      try database.execute(sql: "PRAGMA synchronous = FULL")
      defer { try? database.execute(sql: "PRAGMA synchronous = NORMAL") }
      try database.inTransaction {
        try body(database)
        return .commit
      }
    }
  }

  private static func text(_ entry: some Encodable) throws -> String {
    String(decoding: try JSONEncoder().encode(entry), as: UTF8.self)
  }
}
