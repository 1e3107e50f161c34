import Crypto
import FoundationEssentials

/// Authorizes `/files` requests once the guest has an access token.
///
/// A request needs the token itself or a signature over the operation. The token's owner can give signatures to others.
///
/// Source: E2B's envd contract
struct AccessSignature: Sendable {
  enum Operation: String, Sendable {
    case read
    case write
  }

  /// The path as the client has sent it, not resolved.
  let path: String
  let operation: Operation
  /// The `username` of the query; nil counts as empty.
  let username: String?

  /// `v1_` and the unpadded base64 of SHA-256 over `path:operation:username:token[:expiration]`.
  func value(token: String, expiration: Int64?) -> String {
    var text = "\(path):\(operation.rawValue):\(username ?? ""):\(token)"
    if let expiration { text += ":\(expiration)" }
    let digest = Data(SHA256.hash(data: Data(text.utf8)))
    let encoded = digest.base64EncodedString()
    return "v1_" + encoded.prefix { $0 != "=" }
  }

  /// - Parameters:
  ///   - token: the guest's token; nil means that no token is required.
  ///   - presented: the request's `X-Access-Token`.
  ///   - now: seconds since 1970.
  /// - Throws: `unauthenticated`.
  func authorize(token: String?, presented: String?, query: FilesQuery, now: Int64) throws(FileFailure) {
    guard let token else { return }
    if let presented {
      guard AccessToken.matches(presented, token) else {
        throw FileFailure(.unauthenticated, "access token present in header but does not match")
      }
      return
    }
    guard let signature = query.signature else {
      throw FileFailure(.unauthenticated, "missing signature query parameter")
    }
    let expiration = try query.signatureExpiration
    guard AccessToken.matches(signature, value(token: token, expiration: expiration)) else {
      throw FileFailure(.unauthenticated, "invalid signature")
    }
    if let expiration, expiration < now {
      throw FileFailure(.unauthenticated, "signature is already expired")
    }
  }
}
