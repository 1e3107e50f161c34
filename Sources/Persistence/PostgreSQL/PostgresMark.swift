/// Tells one state of a server's databases from another: two equal ones, of questions that one connection asked, see
/// the same rows.
///
/// A snapshot says which transactions a statement sees: all that began before `xmin`, none from `xmax` on, and those
/// between that it does not list as in progress. So what a statement finds is a function of it. Of a transaction in
/// progress nothing can be seen; when it ends, it leaves the list or moves `xmax`, before its client is told and for
/// good: a snapshot that was left does not come back, and one that a question finds, which was sent after the answer to
/// a commit, sees that commit. Whoever commits, in whatever program and database of the server, changes it; a
/// transaction that only reads does not.
///
/// Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT, `GetSnapshotData` in
/// procarray.c, `XidInMVCCSnapshot` in snapmgr.c, `CommitTransaction` in xact.c
struct PostgresMark: Equatable {
  /// A snapshot names what is in progress, eight bytes each; one that is longer is not remembered.
  static let maximumBytes = 16_384

  /// A statement sees its own snapshot, also in the middle of a pipeline (READ COMMITTED).
  static let question = PostgresLookUp(
    sql: "SELECT pg_current_snapshot(), pg_backend_pid(), pg_is_in_recovery()", parameters: [])

  private let snapshot: [UInt8]
  /// Transactions are numbered by a server. A pooler that leads one connection to several is found out.
  private let backend: Int
  /// How often calls of this program went to another server than the one before.
  private let moves: Int

  /// - Parameter answer: of the question.
  /// - Returns: nil when nothing follows from it: a stand-by's snapshots do not list what is in progress.
  /// - Throws: `PersistenceError.corruptRow`.
  init?(_ answer: SQLRow?, moves: Int) throws {
    guard let answer else { throw PersistenceError.corruptRow("a question without an answer") }
    let snapshot = try answer.blob(0)
    guard try !answer.bool(2), snapshot.count <= Self.maximumBytes else { return nil }
    self.snapshot = snapshot
    backend = try answer.integer(1)
    self.moves = moves
  }
}
