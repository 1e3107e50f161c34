import AsyncHTTPClient
import Connect
import NIOCore

/// Runs one call and gives what the HTTP client throws its meaning in the Connect protocol.
func translatingErrors<Value>(
  isolation: isolated (any Actor)? = #isolation, _ call: () async throws -> Value
) async throws -> Value {
  do {
    return try await call()
  } catch {
    throw transportError(error)
  }
}

/// `ConnectError` and `CancellationError` pass; time-outs become `deadline_exceeded`, an answer that is too long
/// `resource_exhausted`, everything else says that the server could not be reached.
func transportError(_ error: any Error) -> any Error {
  switch error {
  case is ConnectError, is CancellationError:
    return error
  case is NIOTooManyBytesError:
    return ConnectError(.resourceExhausted, "the server's answer is longer than the limit")
  case HTTPClientError.cancelled as HTTPClientError:
    return CancellationError()
  case HTTPClientError.deadlineExceeded as HTTPClientError, HTTPClientError.readTimeout as HTTPClientError:
    return ConnectError(.deadlineExceeded, "the server did not answer in time")
  default:
    return ConnectError(.unavailable, "the server cannot be reached (\(error))")
  }
}
