import Concurrency
import Connect
import ConnectClient
import Model

/// The topic of a call; decides the meaning of the guest's general error codes.
enum GuestCall: Sendable {
  case control
  case process
  case file
}

/// Maps errors of the guest to `MartletError`; no other code does.
enum GuestErrors {
  /// Characters that are kept of a guest's error text. The guest is hostile and may send any length.
  private static let maximumMessageCharacters = 512

  static func code(_ code: ConnectCode, _ call: GuestCall) -> ErrorCode {
    switch code {
    case .canceled: .canceled
    case .invalidArgument, .outOfRange, .failedPrecondition: .invalidRequest
    case .deadlineExceeded: .deadlineExceeded
    case .notFound: .notFound
    case .alreadyExists: .alreadyExists
    case .permissionDenied: .forbidden
    case .resourceExhausted: call == .file ? .insufficientStorage : .rateLimited
    case .unimplemented: .unimplemented
    // The host always sends the right token, so the user is unknown.
    case .unauthenticated: call == .control ? .agentError : .invalidRequest
    case .unknown, .aborted, .internalError, .unavailable, .dataLoss: .agentError
    }
  }

  static func code(httpStatus: Int, _ call: GuestCall) -> ErrorCode {
    switch httpStatus {
    case 400, 406, 416, 422: .invalidRequest
    case 401: call == .control ? .agentError : .invalidRequest
    case 403: .forbidden
    case 404: .notFound
    case 409: .alreadyExists
    case 413: .tooLarge
    case 429: .rateLimited
    case 504: .deadlineExceeded
    case 507: .insufficientStorage
    default: .agentError
    }
  }

  /// Maps an error that a call to the guest threw.
  static func martletError(_ error: any Error, _ call: GuestCall) -> MartletError {
    switch error {
    case let error as MartletError:
      error
    case is CancellationError:
      MartletError(.canceled, "the request was canceled", cause: error)
    case let error as ConnectError:
      refusal(code(error.code, call), error.message, cause: error)
    default:
      unreachable(cause: error)
    }
  }

  /// Keeps the guest's text for a request that it refuses, and uses our own text for a fault of the guest.
  static func refusal(_ code: ErrorCode, _ message: String, cause: (any Error)? = nil) -> MartletError {
    switch code {
    case .agentError: unreachable(cause: cause ?? GuestFailure(message: message))
    case .deadlineExceeded: MartletError(code, "the guest agent did not respond in time", cause: cause)
    default: MartletError(code, String(message.prefix(maximumMessageCharacters)), cause: cause)
    }
  }

  static func unreachable(cause: (any Error)?) -> MartletError {
    MartletError(
      .agentError, "the sandbox's guest agent did not respond as expected; try again, or destroy the sandbox",
      cause: cause)
  }
}

/// A failure inside the guest. Used only as the cause of a `MartletError`.
struct GuestFailure: Error, CustomStringConvertible {
  let message: String

  var description: String { message }
}

/// Runs a call to the guest and maps its errors to `MartletError`.
func guestCall<Value>(
  _ call: GuestCall, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
) async throws -> Value {
  do {
    return try await body()
  } catch {
    throw GuestErrors.martletError(error, call)
  }
}

extension BoundedStream {
  /// A stream from the guest; errors of `read` reach the consumer as `MartletError`.
  convenience init(
    _ call: GuestCall, capacity: Int, idleLimit: Duration,
    _ read: @escaping @Sendable (BoundedQueue<Element>, IdleWatch) async throws -> Void
  ) {
    self.init(capacity: capacity, idleLimit: idleLimit, translating: { GuestErrors.martletError($0, call) }, read)
  }
}
