/// The error type of all module interfaces: a stable code, a sentence for the tenant, and an internal cause.
///
/// Lower modules (kernel, disks, network, VMM) throw their own typed errors. The caller that knows the meaning for the
/// tenant wraps such an error once, with the original as `cause`. Only `code` and `message` leave the process.
package struct MartletError: Error, Sendable, CustomStringConvertible {
  package let code: ErrorCode
  /// Names the affected object and the remedy. Never contains host paths, SQL, or text from `cause`.
  package let message: String
  /// The underlying error, for the log only.
  package let cause: (any Error)?
  /// Seconds after which the client should retry; nil if unknown.
  package let retryAfterSeconds: Int?

  package init(_ code: ErrorCode, _ message: String, retryAfterSeconds: Int? = nil, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.retryAfterSeconds = retryAfterSeconds
    self.cause = cause
  }

  package var description: String {
    guard let cause else { return "\(code.rawValue): \(message)" }
    return "\(code.rawValue): \(message) (cause: \(cause))"
  }

  /// Converts any error: a `MartletError` stays as it is, a `MartletErrorConvertible` is converted, other errors become
  /// `internal` with the original as cause.
  package static func wrapping(_ error: any Error) -> MartletError {
    if let error = error as? MartletError { return error }
    if let meaning = (error as? any MartletErrorConvertible)?.martletError { return meaning }
    if error is CancellationError { return MartletError(.canceled, "the request was canceled", cause: error) }
    return MartletError(.internalError, "an internal error occurred; the server's log has the details", cause: error)
  }
}

/// An error of a lower module that converts itself to a `MartletError`, independent of the operation that failed.
package protocol MartletErrorConvertible: Error {
  /// Nil if the tenant should see only `internal`.
  var martletError: MartletError? { get }
}

extension MartletError {
  package static func sandboxNotFound(_ id: SandboxID) -> MartletError {
    MartletError(.notFound, "sandbox \(id) does not exist")
  }

  package static func invalidState(_ id: SandboxID, is status: SandboxStatus, needs: String) -> MartletError {
    MartletError(.invalidState, "sandbox \(id) is \(status.rawValue); this operation needs a sandbox that is \(needs)")
  }
}

/// Stable codes of the REST API's `{"error":{"code","message"}}`, with their representation in the other interfaces.
///
/// This is the only table that maps errors to HTTP status, Connect code, CLI exit code and retryability.
package enum ErrorCode: String, Sendable, CaseIterable, Codable {
  case invalidRequest = "invalid_request"
  case unauthorized
  case forbidden
  /// The user belongs to no team, or has left the session's team.
  case noTeam = "no_team"
  /// The team has reached its quota.
  case quotaExceeded = "quota_exceeded"
  case notFound = "not_found"
  case methodNotAllowed = "method_not_allowed"
  /// The request's `Host` names another server.
  case misdirectedRequest = "misdirected_request"
  case invalidState = "invalid_state"
  case alreadyExists = "already_exists"
  case emailTaken = "email_taken"
  /// The `Idempotency-Key` was used before with another request.
  case idempotencyConflict = "idempotency_conflict"
  case tooLarge = "too_large"
  case rateLimited = "rate_limited"
  case canceled
  case deadlineExceeded = "deadline_exceeded"
  case agentError = "agent_error"
  case noHostsAvailable = "no_hosts_available"
  case hostUnavailable = "host_unavailable"
  /// Host and database belong to different installations; nothing was changed.
  case wrongInstallation = "wrong_installation"
  /// The database is not reachable; nothing was changed.
  case databaseUnavailable = "database_unavailable"
  /// The database connection broke during a commit: the change may or may not have been saved.
  case outcomeUnknown = "outcome_unknown"
  /// A snapshot's files are damaged; an older generation may be usable.
  case snapshotDamaged = "snapshot_damaged"
  /// The snapshot was taken on a host with an incompatible VMM or CPU.
  case snapshotIncompatible = "snapshot_incompatible"
  /// Another object still needs the object.
  case inUse = "in_use"
  case insufficientStorage = "insufficient_storage"
  case unimplemented
  case internalError = "internal"

  package struct Meaning: Sendable {
    package let httpStatus: Int
    /// Connect protocol error code. Source: https://connectrpc.com/docs/protocol/#error-codes
    package let connectCode: String
    /// Exit code of the CLI; codes from sysexits(3) where one fits.
    package let exitCode: Int32
    /// Whether the same call may succeed later without a change of the request.
    package let isRetryable: Bool
  }

  package var meaning: Meaning {
    switch self {
    case .invalidRequest: Meaning(httpStatus: 400, connectCode: "invalid_argument", exitCode: 64, isRetryable: false)
    case .unauthorized: Meaning(httpStatus: 401, connectCode: "unauthenticated", exitCode: 77, isRetryable: false)
    case .forbidden: Meaning(httpStatus: 403, connectCode: "permission_denied", exitCode: 77, isRetryable: false)
    case .noTeam: Meaning(httpStatus: 403, connectCode: "permission_denied", exitCode: 77, isRetryable: false)
    case .quotaExceeded: Meaning(httpStatus: 403, connectCode: "resource_exhausted", exitCode: 75, isRetryable: false)
    case .notFound: Meaning(httpStatus: 404, connectCode: "not_found", exitCode: 66, isRetryable: false)
    case .methodNotAllowed: Meaning(httpStatus: 405, connectCode: "unimplemented", exitCode: 64, isRetryable: false)
    case .misdirectedRequest:
      Meaning(httpStatus: 421, connectCode: "invalid_argument", exitCode: 76, isRetryable: false)
    case .invalidState: Meaning(httpStatus: 409, connectCode: "failed_precondition", exitCode: 75, isRetryable: false)
    case .alreadyExists: Meaning(httpStatus: 409, connectCode: "already_exists", exitCode: 73, isRetryable: false)
    case .emailTaken: Meaning(httpStatus: 409, connectCode: "already_exists", exitCode: 73, isRetryable: false)
    case .idempotencyConflict:
      Meaning(httpStatus: 409, connectCode: "failed_precondition", exitCode: 65, isRetryable: false)
    case .tooLarge: Meaning(httpStatus: 413, connectCode: "resource_exhausted", exitCode: 64, isRetryable: false)
    case .rateLimited: Meaning(httpStatus: 429, connectCode: "resource_exhausted", exitCode: 75, isRetryable: true)
    case .canceled: Meaning(httpStatus: 499, connectCode: "canceled", exitCode: 75, isRetryable: false)
    case .deadlineExceeded: Meaning(httpStatus: 504, connectCode: "deadline_exceeded", exitCode: 75, isRetryable: true)
    case .agentError: Meaning(httpStatus: 502, connectCode: "unavailable", exitCode: 69, isRetryable: true)
    case .noHostsAvailable: Meaning(httpStatus: 503, connectCode: "unavailable", exitCode: 69, isRetryable: true)
    case .hostUnavailable: Meaning(httpStatus: 503, connectCode: "unavailable", exitCode: 69, isRetryable: true)
    case .wrongInstallation:
      Meaning(httpStatus: 503, connectCode: "failed_precondition", exitCode: 78, isRetryable: false)
    case .databaseUnavailable: Meaning(httpStatus: 503, connectCode: "unavailable", exitCode: 69, isRetryable: true)
    case .outcomeUnknown: Meaning(httpStatus: 500, connectCode: "unknown", exitCode: 70, isRetryable: false)
    case .snapshotDamaged: Meaning(httpStatus: 409, connectCode: "data_loss", exitCode: 65, isRetryable: false)
    case .snapshotIncompatible:
      Meaning(httpStatus: 409, connectCode: "failed_precondition", exitCode: 65, isRetryable: false)
    case .inUse: Meaning(httpStatus: 409, connectCode: "failed_precondition", exitCode: 75, isRetryable: false)
    case .insufficientStorage:
      Meaning(httpStatus: 507, connectCode: "resource_exhausted", exitCode: 73, isRetryable: true)
    case .unimplemented: Meaning(httpStatus: 501, connectCode: "unimplemented", exitCode: 69, isRetryable: false)
    case .internalError: Meaning(httpStatus: 500, connectCode: "internal", exitCode: 70, isRetryable: false)
    }
  }
}
