import Crypto
import Foundation
package import HTTPTypes

/// The opening handshake. Source: RFC 6455, section 4.2
package enum WebSocketHandshake {
  private static let suffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

  package enum Verdict: Sendable, Equatable {
    /// Headers of the 101 response.
    case accepted(HTTPFields)
    /// A request without WebSocket headers.
    case notRequested
    /// The value is an error message for the client.
    case malformed(String)
  }

  package static func examine(_ request: HTTPRequest) -> Verdict {
    guard isRequested(by: request) else { return .notRequested }
    guard request.method == .get else { return .malformed("a WebSocket is opened with GET") }
    guard request.headerFields[.secWebSocketVersion] == "13" else {
      return .malformed("Sec-WebSocket-Version must be 13")
    }
    guard let key = request.headerFields[.secWebSocketKey], Data(base64Encoded: key)?.count == 16 else {
      return .malformed("Sec-WebSocket-Key must be 16 bytes in base64")
    }
    let digest = Insecure.SHA1.hash(data: Data((key + suffix).utf8))
    return .accepted([
      .upgrade: "websocket", .connection: "upgrade", .secWebSocketAccept: Data(digest).base64EncodedString(),
    ])
  }

  /// Whether the request may lead to a 101. The end of any other request must reach its route, which may wait for it.
  static func canBeGranted(_ request: HTTPRequest) -> Bool {
    request.method == .get && isRequested(by: request)
  }

  private static func isRequested(by request: HTTPRequest) -> Bool {
    hasToken("websocket", request.headerFields[.upgrade]) && wantsUpgrade(request)
  }

  /// Whether the HTTP parser treats the request as the last one of its connection.
  static func wantsUpgrade(_ request: HTTPRequest) -> Bool {
    request.headerFields[.upgrade] != nil && hasToken("upgrade", request.headerFields[.connection])
  }

  private static func hasToken(_ token: String, _ field: String?) -> Bool {
    guard let field else { return false }
    return field.split(separator: ",").contains { $0.trimmingCharacters(in: .whitespaces).lowercased() == token }
  }
}
