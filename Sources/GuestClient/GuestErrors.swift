import Connect
import ConnectClient
import Model

/// What a call was about; decides what the guest's more general codes mean.
enum GuestCall: Sendable {
  case control
  case process
  case file
}

/// The only place that turns what a guest answers into `MartletError`.
enum GuestErrors {
  /// As much of a guest's own text is passed on; a guest is not trusted to be brief.
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
    // The host always sends the right token; what is unknown is the user.
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

  /// - Parameter error: what a call to the guest threw.
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

  /// The guest's own sentence for what it refuses, ours for what is wrong with the guest.
  static func refusal(_ code: ErrorCode, _ message: String, cause: (any Error)? = nil) -> MartletError {
    switch code {
    case .agentError: unreachable(cause: cause ?? GuestFailure(message: message))
    case .deadlineExceeded: MartletError(code, "the guest agent did not answer in time", cause: cause)
    default: MartletError(code, String(message.prefix(maximumMessageCharacters)), cause: cause)
    }
  }

  static func unreachable(cause: (any Error)?) -> MartletError {
    MartletError(
      .agentError, "the sandbox's guest agent did not answer as it should; try again, or destroy the sandbox",
      cause: cause)
  }
}

/// What is known about a failure inside the guest; only ever a cause.
struct GuestFailure: Error, CustomStringConvertible {
  let message: String

  var description: String { message }
}

/// Runs a call to the guest and gives its errors their meaning.
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
  /// A stream of the guest's; what `read` throws, the consumer sees as `MartletError`.
  convenience init(
    _ call: GuestCall, capacity: Int, idleLimit: Duration,
    _ read: @escaping @Sendable (BoundedChannel<Element>, IdleWatch) async throws -> Void
  ) {
    self.init(capacity: capacity, idleLimit: idleLimit, translating: { GuestErrors.martletError($0, call) }, read)
  }
}
