/// Error codes of the Connect protocol; the raw value is the code on the wire.
///
/// Source: https://connectrpc.com/docs/protocol/#error-codes
package enum ConnectCode: String, Sendable, CaseIterable, Codable {
  case canceled
  case unknown
  case invalidArgument = "invalid_argument"
  case deadlineExceeded = "deadline_exceeded"
  case notFound = "not_found"
  case alreadyExists = "already_exists"
  case permissionDenied = "permission_denied"
  case resourceExhausted = "resource_exhausted"
  case failedPrecondition = "failed_precondition"
  case aborted
  case outOfRange = "out_of_range"
  case unimplemented
  case internalError = "internal"
  case unavailable
  case dataLoss = "data_loss"
  case unauthenticated

  /// HTTP status of a unary response that fails with this code.
  package var httpStatus: Int {
    switch self {
    case .canceled: 499
    case .unknown, .internalError, .dataLoss: 500
    case .invalidArgument, .failedPrecondition, .outOfRange: 400
    case .deadlineExceeded: 504
    case .notFound: 404
    case .alreadyExists, .aborted: 409
    case .permissionDenied: 403
    case .resourceExhausted: 429
    case .unimplemented: 501
    case .unavailable: 503
    case .unauthenticated: 401
    }
  }

  /// The code for a response that has this HTTP status and no readable Connect error.
  ///
  /// Source: https://connectrpc.com/docs/protocol/#http-to-error-code
  package init(inferredFromHTTPStatus status: Int) {
    switch status {
    case 400: self = .internalError
    case 401: self = .unauthenticated
    case 403: self = .permissionDenied
    case 404: self = .unimplemented
    case 429, 502, 503, 504: self = .unavailable
    default: self = .unknown
    }
  }
}
