/// One numbered schema change, with the SQL to apply and to revert it.
package struct Migration: Sendable, Equatable {
  /// Starts at 1, without gaps.
  package let number: Int
  package let name: String
  package let up: String
  package let down: String
}

extension Migration {
  /// All migrations of a dialect in order. The SQL texts are the `.sql` files beside this one, compiled into the
  /// program as constants. The package manager derives a constant's name from the file name and replaces the first
  /// digit by an underscore.
  package static func all(for dialect: SQLDialect) -> [Migration] {
    switch dialect {
    case .sqlite:
      [
        Migration(
          number: 1, name: "teams_and_sandboxes",
          up: text(PackageResources._001_teams_and_sandboxes_sqlite_up_sql),
          down: text(PackageResources._001_teams_and_sandboxes_sqlite_down_sql)),
        Migration(
          number: 2, name: "pause_and_snapshots",
          up: text(PackageResources._002_pause_and_snapshots_sqlite_up_sql),
          down: text(PackageResources._002_pause_and_snapshots_sqlite_down_sql)),
        Migration(
          number: 3, name: "people",
          up: text(PackageResources._003_people_sqlite_up_sql), down: text(PackageResources._003_people_sqlite_down_sql)
        ),
        Migration(
          number: 4, name: "list_indexes",
          up: text(PackageResources._004_list_indexes_sqlite_up_sql),
          down: text(PackageResources._004_list_indexes_sqlite_down_sql)),
        Migration(
          number: 5, name: "usage_samples",
          up: text(PackageResources._005_usage_samples_sqlite_up_sql),
          down: text(PackageResources._005_usage_samples_sqlite_down_sql)),
        Migration(
          number: 6, name: "retention",
          up: text(PackageResources._006_retention_sqlite_up_sql),
          down: text(PackageResources._006_retention_sqlite_down_sql)),
        Migration(
          number: 7, name: "sandbox_load",
          up: text(PackageResources._007_sandbox_load_sqlite_up_sql),
          down: text(PackageResources._007_sandbox_load_sqlite_down_sql)),
        Migration(
          number: 8, name: "hosts",
          up: text(PackageResources._008_hosts_sqlite_up_sql), down: text(PackageResources._008_hosts_sqlite_down_sql)),
        Migration(
          number: 9, name: "workers",
          up: text(PackageResources._009_workers_sqlite_up_sql),
          down: text(PackageResources._009_workers_sqlite_down_sql)),
        Migration(
          number: 10, name: "installation",
          up: text(PackageResources._010_installation_sqlite_up_sql),
          down: text(PackageResources._010_installation_sqlite_down_sql)),
      ]
    case .postgresql:
      [
        Migration(
          number: 1, name: "teams_and_sandboxes",
          up: text(PackageResources._001_teams_and_sandboxes_postgresql_up_sql),
          down: text(PackageResources._001_teams_and_sandboxes_postgresql_down_sql)),
        Migration(
          number: 2, name: "pause_and_snapshots",
          up: text(PackageResources._002_pause_and_snapshots_postgresql_up_sql),
          down: text(PackageResources._002_pause_and_snapshots_postgresql_down_sql)),
        Migration(
          number: 3, name: "people",
          up: text(PackageResources._003_people_postgresql_up_sql),
          down: text(PackageResources._003_people_postgresql_down_sql)),
        Migration(
          number: 4, name: "list_indexes",
          up: text(PackageResources._004_list_indexes_postgresql_up_sql),
          down: text(PackageResources._004_list_indexes_postgresql_down_sql)
        ),
        Migration(
          number: 5, name: "usage_samples",
          up: text(PackageResources._005_usage_samples_postgresql_up_sql),
          down: text(PackageResources._005_usage_samples_postgresql_down_sql)),
        Migration(
          number: 6, name: "retention",
          up: text(PackageResources._006_retention_postgresql_up_sql),
          down: text(PackageResources._006_retention_postgresql_down_sql)),
        Migration(
          number: 7, name: "sandbox_load",
          up: text(PackageResources._007_sandbox_load_postgresql_up_sql),
          down: text(PackageResources._007_sandbox_load_postgresql_down_sql)
        ),
        Migration(
          number: 8, name: "hosts",
          up: text(PackageResources._008_hosts_postgresql_up_sql),
          down: text(PackageResources._008_hosts_postgresql_down_sql)),
        Migration(
          number: 9, name: "workers",
          up: text(PackageResources._009_workers_postgresql_up_sql),
          down: text(PackageResources._009_workers_postgresql_down_sql)),
        Migration(
          number: 10, name: "installation",
          up: text(PackageResources._010_installation_postgresql_up_sql),
          down: text(PackageResources._010_installation_postgresql_down_sql)),
      ]
    }
  }

  private static func text(_ bytes: [UInt8]) -> String {
    String(decoding: bytes, as: UTF8.self)
  }
}
