/// Session-level advisory locks; the server frees them when the connection ends, however it ends.
///
/// Source: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
enum PostgresLock: Int32, Sendable {
  case migrations = 1
  case leadership = 2
  /// Shared by all programs that are connected.
  case presence = 3

  /// The first of the two keys, so that other programs on the same database have theirs.
  static let space: Int32 = 0x6D72_746C

  var keys: [SQLValue] { [.integer(Int64(Self.space)), .integer(Int64(rawValue))] }
}

/// Leadership by advisory lock, on a connection that serves nothing else.
struct PostgresLeaderLock: LeaderLock {
  /// The locks of a connection.
  struct Holdings {
    var leads: Bool
  }

  let pool: PostgresPool

  func hold() async -> LeaderStanding {
    (try? await pool.run { session, _ in try Self.hold(session) }) ?? .follower
  }

  func release() async {
    _ = try? await pool.run { session, _ in session.disconnect() }
  }

  private static func hold(_ session: PostgresSession) throws -> LeaderStanding {
    do {
      return try session.onConnection(stand)
    } catch let lost as LostLeadership {
      throw lost
    } catch {
      // An idle connection that was closed; the lock was not ours.
      return try session.onConnection(stand)
    }
  }

  /// Leadership that ended is told of once before it is taken again: whoever had it must forget what it learned as leader.
  private struct LostLeadership: Error {}

  private static func stand(_ connection: PostgresConnection) throws -> LeaderStanding {
    do {
      if connection.standing == nil {
        _ = try connection.row("SELECT pg_advisory_lock_shared(?, ?)", PostgresLock.presence.keys)
        connection.standing = Holdings(leads: false)
      }
      if connection.standing?.leads == false {
        guard try connection.row("SELECT pg_try_advisory_lock(?, ?)", PostgresLock.leadership.keys)?.bool(0) == true else {
          return .follower
        }
        connection.standing?.leads = true
      }
      return .leader(isAlone: try isAlone(connection))
    } catch {
      throw connection.standing?.leads == true ? LostLeadership() : error
    }
  }

  /// The exclusive lock is to be had beside our own shared one when nobody else shares it.
  private static func isAlone(_ connection: PostgresConnection) throws -> Bool {
    let keys = PostgresLock.presence.keys
    let sql = "SELECT CASE WHEN pg_try_advisory_lock(?, ?) THEN pg_advisory_unlock(?, ?) ELSE false END"
    return try connection.row(sql, keys + keys)?.bool(0) == true
  }
}
