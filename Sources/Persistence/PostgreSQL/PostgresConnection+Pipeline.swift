import CPostgres

extension PostgresConnection {
  /// Runs many look-ups in one round trip. Each sees what is committed when the server runs it.
  ///
  /// Source: https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
  /// - Returns: for each look-up the first row of its result, or nil if there is none.
  /// - Throws: `PersistenceError` when one of them fails. The connection stays usable unless it broke.
  func rows(_ lookUps: [PostgresLookUp]) throws -> [SQLRow?] {
    let calls = try translating {
      try lookUps.map { lookUp in
        let statement = try prepared(lookUp.sql)
        return (statement.name, try PostgresParameters(lookUp.parameters, types: statement.parameterTypes))
      }
    }
    return try translating {
      try recordingFailure {
        try send(calls)
        return try receive(calls.count)
      }
    }
  }

  private func send(_ calls: [(name: String, parameters: PostgresParameters)]) throws(PostgresFailure) {
    guard PQenterPipelineMode(handle) == 1 else { throw connectionLost("pipeline mode could not be entered") }
    for call in calls {
      let isSent = call.parameters.withPointers { count, values, lengths, formats in
        PQsendQueryPrepared(handle, call.name, count, values, lengths, formats, 1)
      }
      guard isSent == 1 else { throw connectionLost("the connection broke") }
    }
    guard PQpipelineSync(handle) == 1 else { throw connectionLost("the connection broke") }
  }

  /// Reads all results even if one is an error, so that none is left for the next call.
  private func receive(_ count: Int) throws -> [SQLRow?] {
    var rows: [SQLRow?] = []
    var failure: (any Error)?
    for _ in 0..<count {
      // After an error the server skips the remaining commands and reports each of them as aborted.
      guard let result = try awaitResult() else { throw connectionLost("a result is missing") }
      do {
        if let failure = result.failure { throw failure }
        rows.append(try result.rows().first)
      } catch {
        failure = failure ?? error
      }
      guard try awaitResult() == nil else { throw connectionLost("there is an unexpected extra result") }
    }
    guard let end = try awaitResult(), end.isPipelineEnd, PQexitPipelineMode(handle) == 1 else {
      throw connectionLost("the end of the pipeline is missing")
    }
    if let failure { throw failure }
    return rows
  }
}
