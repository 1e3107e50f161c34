/// Session-level advisory locks; the server frees them when the connection ends, however it ends.
///
/// Source: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
enum PostgresLock: Int32, Sendable {
  case migrations = 1
  case leadership = 2

  /// The first of the two keys, so that other programs on the same database have theirs.
  static let space: Int32 = 0x6D72_746C
  /// The same for locks whose second key is a worker: as long as one is connected it holds its own.
  static let workers: Int32 = 0x6D72_7477

  var keys: [SQLValue] { [.integer(Int64(Self.space)), .integer(Int64(rawValue))] }
}

/// Leadership by advisory lock, on a connection that serves nothing else.
struct PostgresLeaderLock: LeaderLock {
  /// The locks of a connection.
  struct HeldLocks {
    var leads: Bool
  }

  let pool: PostgresPool
  let worker: WorkerID

  func hold() async -> LeadershipState {
    (try? await pool.run { session, _ in try hold(session) }) ?? .follower
  }

  func release() async {
    _ = try? await pool.run { session, _ in session.disconnect() }
  }

  private func hold(_ session: PostgresSession) throws -> LeadershipState {
    do {
      return try session.onConnection(stand)
    } catch let lost as LostLeadership {
      throw lost
    } catch {
      // An idle connection that was closed; the lock was not ours.
      return try session.onConnection(stand)
    }
  }

  /// Leadership that ended is told of once before it is taken again: whoever had it must forget what it learned as
  /// leader.
  private struct LostLeadership: Error {}

  private func stand(_ connection: PostgresConnection) throws -> LeadershipState {
    do {
      if connection.heldLocks == nil {
        // Shared: a connection of ours that was lost may be a while about its end.
        _ = try connection.row(
          "SELECT pg_advisory_lock_shared(?, ?)",
          [.integer(Int64(PostgresLock.workers)), .integer(Int64(worker.number))])
        connection.heldLocks = HeldLocks(leads: false)
      }
      if connection.heldLocks?.leads == false {
        guard try connection.row("SELECT pg_try_advisory_lock(?, ?)", PostgresLock.leadership.keys)?.bool(0) == true
        else {
          return .follower
        }
        connection.heldLocks?.leads = true
      }
      return .leader(workers: try connected(connection))
    } catch {
      throw connection.heldLocks?.leads == true ? LostLeadership() : error
    }
  }

  /// Source: https://www.postgresql.org/docs/current/view-pg-locks.html
  private func connected(_ connection: PostgresConnection) throws -> Set<WorkerID> {
    let sql = """
      SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND classid = \(PostgresLock.workers) AND objsubid = 2 AND granted \
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """
    return Set(try connection.rows(sql).compactMap { Int32(exactly: try $0.integer(0)).map { WorkerID(number: $0) } })
  }
}
