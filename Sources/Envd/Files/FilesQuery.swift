import Crypto
import FoundationEssentials

/// The query of a `/files` request.
///
/// Decoded like an HTML form (`+` is a space), because the clients encode it so. The first one of equal names counts.
struct FilesQuery: Sendable, Equatable {
  private let values: [String: String]

  /// - Throws: `invalidArgument` for a malformed escape or text that is not UTF-8.
  init(_ query: String?) throws(FileFailure) {
    var values: [String: String] = [:]
    for pair in (query ?? "").split(separator: "&") {
      let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = try Self.decode(halves[0])
      guard values[name] == nil else { continue }
      values[name] = halves.count == 2 ? try Self.decode(halves[1]) : ""
    }
    self.values = values
  }

  /// The path as the client has sent it; nil if the query has none, which differs from an empty path.
  var path: String? { values["path"] }
  /// nil when absent or empty.
  var username: String? { values["username"].flatMap { $0.isEmpty ? nil : $0 } }
  var signature: String? { values["signature"].flatMap { $0.isEmpty ? nil : $0 } }

  /// Seconds since 1970.
  /// - Throws: `invalidArgument` when it is not a number.
  var signatureExpiration: Int64? {
    get throws(FileFailure) {
      guard let text = values["signature_expiration"], !text.isEmpty else { return nil }
      guard let seconds = Int64(text) else {
        throw FileFailure(.invalidArgument, "signature_expiration must be a number of seconds since 1970")
      }
      return seconds
    }
  }

  private static func decode(_ text: Substring) throws(FileFailure) -> String {
    var bytes: [UInt8] = []
    var input = text.utf8.makeIterator()
    while let byte = input.next() {
      switch byte {
      case UInt8(ascii: "+"):
        bytes.append(UInt8(ascii: " "))
      case UInt8(ascii: "%"):
        guard let high = input.next().flatMap(hexValue), let low = input.next().flatMap(hexValue) else {
          throw FileFailure(.invalidArgument, "the query has a malformed percent escape")
        }
        bytes.append(high << 4 | low)
      default:
        bytes.append(byte)
      }
    }
    guard let decoded = String(validating: bytes, as: UTF8.self) else {
      throw FileFailure(.invalidArgument, "the query is not valid UTF-8")
    }
    return decoded
  }

  static func hexValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}

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
