// Measures the cost of a full database: get, list and create of a repository on a database with 100,000 sandboxes and
// 1,000,000 audit rows, alternately with the same operations on an empty one.
//
// usage: martlet-database-bench EMPTY FULL
// Each argument is the path of a SQLite file or a postgres:// URL of a database without tables. Prints one line per
// operation: name, ratio of the medians, microseconds on the full database, microseconds on the empty database.
//
// usage: martlet-database-bench --authenticate DATABASE KEY SANDBOX
// Prints the microseconds that authenticating the API key adds to a read of the sandbox, and those of both together.

import Foundation
import Logging
import Model
import Persistence

func open(_ location: String) async throws -> any Database {
  let database: any Database =
    PostgresConfiguration.isPostgres(location)
    ? PostgresDatabase(try PostgresConfiguration(url: location), logger: Logger(label: "bench"))
    : try SQLiteDatabase(path: location)
  try await Migrator(database: database).migrateUp()
  return database
}

let arguments = CommandLine.arguments.dropFirst()
if arguments.first == "--authenticate", arguments.count == 4, let sandbox = SandboxID(wire: arguments[4]) {
  let database = try await open(arguments[2])
  let (added, whole) = try await Authentication(database: database, key: arguments[3], sandbox: sandbox).measure()
  print(added, whole)
  try await database.close()
  exit(0)
}
guard arguments.count == 2, let emptyLocation = arguments.first, let fullLocation = arguments.last else {
  FileHandle.standardError.write(Data("usage: martlet-database-bench EMPTY FULL\n".utf8))
  exit(64)
}
let empty = try await open(emptyLocation)
let full = try await open(fullLocation)
let team = TeamID()
try await Workload.prepare(empty, team)
try await Filling.fill(full, team)
try await Workload.prepare(full, team)
for operation in Workload.Operation.allCases {
  let (onFull, onEmpty) = try await Workload(full: full, empty: empty, team: team).medians(of: operation)
  print("\(operation.rawValue) \((onFull / onEmpty * 100).rounded() / 100) \(onFull.rounded()) \(onEmpty.rounded())")
}
try await empty.close()
try await full.close()
