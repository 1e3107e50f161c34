package import Connect
import Foundation
package import Model
import NIOCore
import Protos
import SwiftProtobuf

/// Maps errors to their form on the wire between host and control plane, and back: stable code and sentence. The cause
/// stays in its process. Nothing else maps these errors.
package enum HostErrors {
  private static let detailType = "martlet.host.v1.ErrorDetail"
  /// A longer message of a host is truncated.
  static let maximumMessageCharacters = 1_024

  // MARK: - On the host

  package static func connectError(_ error: MartletError) -> ConnectError {
    var detail = Host_ErrorDetail()
    detail.code = error.code.rawValue
    if let seconds = error.retryAfterSeconds { detail.retryAfterSeconds = Int64(seconds) }
    let bytes: [UInt8] = (try? detail.serializedBytes()) ?? []
    let code = ConnectCode(rawValue: error.code.meaning.connectCode) ?? .unknown
    return ConnectError(
      code, error.message, details: [ConnectError.Detail(type: detailType, value: ByteBuffer(bytes: bytes))])
  }

  // MARK: - On the control plane

  /// - Parameter error: an error of a call to the host. Unless it carries an error of the host itself, the host is
  ///   considered unavailable.
  package static func martletError(_ error: any Error) -> MartletError {
    switch error {
    case let error as MartletError: error
    case is CancellationError: MartletError(.canceled, "the request was canceled", cause: error)
    case let error as ConnectError: hostError(error) ?? unavailable(cause: error)
    case let error as MalformedHostMessage:
      MartletError(
        .hostUnavailable, "the sandbox's host runs an incompatible version of Martlet; update it", cause: error)
    default: unavailable(cause: error)
    }
  }

  package static func unavailable(cause: (any Error)?) -> MartletError {
    MartletError(.hostUnavailable, "the sandbox's host does not respond at the moment; try again", cause: cause)
  }

  /// The error that the host reported; nil for an error of the connection.
  private static func hostError(_ error: ConnectError) -> MartletError? {
    guard let detail = error.details.first(where: { $0.type == detailType }),
      let message = try? Host_ErrorDetail(serializedBytes: Array(detail.value.readableBytesView))
    else { return nil }
    return martletError(message, error.message)
  }

  static func martletError(_ detail: Host_ErrorDetail, _ message: String) -> MartletError {
    let seconds = detail.hasRetryAfterSeconds ? Int(clamping: min(max(detail.retryAfterSeconds, 0), 86_400)) : nil
    // A host with a later version may send an unknown code.
    let code = ErrorCode(rawValue: detail.code) ?? .agentError
    return MartletError(code, String(message.prefix(maximumMessageCharacters)), retryAfterSeconds: seconds)
  }
}

/// A message in which a field is missing or malformed.
package struct MalformedHostMessage: Error, Equatable, CustomStringConvertible {
  package let field: String

  package init(_ field: String) {
    self.field = field
  }

  package var description: String { "\(field) is missing or malformed" }
}
