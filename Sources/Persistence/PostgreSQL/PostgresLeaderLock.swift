/// Session-level advisory locks; the server releases them when the connection ends for any reason.
///
/// Source: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
enum PostgresLock: Int32, Sendable {
  case migrations = 1
  case leadership = 2

  /// The first of the two lock keys, so that other programs on the same database can have advisory locks of their own.
  static let space: Int32 = 0x6D72_746C
  /// The first key of worker locks; the second key is the worker's number. A worker holds its lock as long as it is
  /// connected.
  static let workers: Int32 = 0x6D72_7477

  var keys: [SQLValue] { [.integer(Int64(Self.space)), .integer(Int64(rawValue))] }
}

/// The leader lock as an advisory lock, on a connection that serves nothing else.
struct PostgresLeaderLock: LeaderLock {
  /// Advisory locks that a connection holds; the worker lock is held if this exists.
  struct HeldLocks {
    var isLeader: Bool
  }

  let pool: PostgresPool
  let worker: WorkerID

  func tryAcquire() async -> LeadershipState {
    (try? await pool.run { session, _ in try acquire(session) }) ?? .follower
  }

  func release() async {
    _ = try? await pool.run { session, _ in session.disconnect() }
  }

  private func acquire(_ session: PostgresSession) throws -> LeadershipState {
    do {
      return try session.onConnection(acquire)
    } catch let error as LostLeadership {
      throw error
    } catch {
      // The server closed an idle connection on which this worker held no leadership.
      return try session.onConnection(acquire)
    }
  }

  /// The connection that held the leadership was lost. `tryAcquire` reports that once as `follower` before it acquires
  /// the lock again, so that the former leader discards the state that it collected as leader.
  private struct LostLeadership: Error {}

  private func acquire(_ connection: PostgresConnection) throws -> LeadershipState {
    do {
      if connection.heldLocks == nil {
        // A shared lock: after a connection loss, the server may keep the old connection's lock for a while.
        _ = try connection.row(
          "SELECT pg_advisory_lock_shared(?, ?)",
          [.integer(Int64(PostgresLock.workers)), .integer(Int64(worker.number))])
        connection.heldLocks = HeldLocks(isLeader: false)
      }
      if connection.heldLocks?.isLeader == false {
        guard try connection.row("SELECT pg_try_advisory_lock(?, ?)", PostgresLock.leadership.keys)?.bool(0) == true
        else {
          return .follower
        }
        connection.heldLocks?.isLeader = true
      }
      return .leader(workers: try connectedWorkers(connection))
    } catch {
      throw connection.heldLocks?.isLeader == true ? LostLeadership() : error
    }
  }

  /// The workers that are connected to the database now. Source:
  /// https://www.postgresql.org/docs/current/view-pg-locks.html
  private func connectedWorkers(_ connection: PostgresConnection) throws -> Set<WorkerID> {
    let sql = """
      SELECT objid::bigint FROM pg_locks \
      WHERE locktype = 'advisory' AND classid = \(PostgresLock.workers) AND objsubid = 2 AND granted \
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """
    return Set(try connection.rows(sql).compactMap { Int32(exactly: try $0.integer(0)).map { WorkerID(number: $0) } })
  }
}
