/// Identifies a state of the databases of a server. If two tokens that were queried on one connection are equal,
/// statements between the two queries saw the same rows.
///
/// A token contains a PostgreSQL snapshot. A snapshot determines which transactions a statement sees: all with an id
/// below `xmin`, none with an id of `xmax` or above, and those between that its list of transactions in progress does
/// not contain. Changes of a transaction in progress are invisible. When it commits, it leaves that list or `xmax`
/// advances, before the server reports the commit to its client; an earlier snapshot never returns. A query that is
/// sent after the response to a commit therefore gets a token that differs from every token before that commit. Commits
/// of any program in any database of the server change the token; read-only transactions do not.
///
/// Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT, `GetSnapshotData` in
/// procarray.c, `XidInMVCCSnapshot` in snapmgr.c, `CommitTransaction` in xact.c
struct PostgresStateToken: Equatable {
  /// A snapshot lists each transaction in progress with eight bytes; a longer one yields no token.
  static let maximumBytes = 16_384

  /// Each statement has its own snapshot, also in the middle of a pipeline (READ COMMITTED).
  static let query = PostgresLookUp(
    sql: "SELECT pg_current_snapshot(), pg_backend_pid(), pg_is_in_recovery()", parameters: [])

  private let snapshot: [UInt8]
  /// Transaction ids are per server. The backend's process id reveals a pooler that switches one connection between
  /// servers.
  private let backend: Int
  /// `PostgresServers.changes` when the token was queried.
  private let serverChanges: Int

  /// - Parameter row: the result of `query`.
  /// - Returns: nil if the result does not identify a state: the snapshots of a stand-by do not list transactions in
  ///   progress, and very long snapshots are not kept.
  /// - Throws: `PersistenceError.corruptRow`.
  init?(_ row: SQLRow?, serverChanges: Int) throws {
    guard let row else { throw PersistenceError.corruptRow("the query of the database state returned no row") }
    let snapshot = try row.blob(0)
    guard try !row.bool(2), snapshot.count <= Self.maximumBytes else { return nil }
    self.snapshot = snapshot
    backend = try row.integer(1)
    self.serverChanges = serverChanges
  }
}
