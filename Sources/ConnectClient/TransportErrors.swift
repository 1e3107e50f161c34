import AsyncHTTPClient
import Connect
import NIOCore

/// Runs one call and maps the errors of the HTTP client to `ConnectError`.
func mappingTransportErrors<Value>(
  isolation: isolated (any Actor)? = #isolation, _ call: () async throws -> Value
) async throws -> Value {
  do {
    return try await call()
  } catch {
    throw transportError(error)
  }
}

/// Maps an error of the HTTP client. `ConnectError` and `CancellationError` pass unchanged; time-outs become
/// `deadline_exceeded`, a response that is too long `resource_exhausted`, everything else `unavailable`.
func transportError(_ error: any Error) -> any Error {
  switch error {
  case is ConnectError, is CancellationError:
    return error
  case is NIOTooManyBytesError:
    return ConnectError(.resourceExhausted, "the server's response is longer than the limit")
  case HTTPClientError.cancelled as HTTPClientError:
    return CancellationError()
  case HTTPClientError.deadlineExceeded as HTTPClientError, HTTPClientError.readTimeout as HTTPClientError:
    return ConnectError(.deadlineExceeded, "the server did not respond in time")
  default:
    return ConnectError(.unavailable, "the server cannot be reached (\(error))")
  }
}
