import FoundationEssentials
import HTTPTypes

/// Body of `POST /init`. Fields that are absent change nothing. Source: E2B's envd contract; `hostname`, `sandboxID`,
/// `templateID`, `entropy` and `newLife` are our additions. E2B's fields that have no meaning here are ignored.
package struct InitRequest: Sendable, Equatable, Decodable {
  package var envVars: [String: String]?
  package var accessToken: String?
  /// The host's wall clock in RFC 3339.
  package var timestamp: String?
  package var defaultUser: String?
  package var defaultWorkdir: String?
  package var hostname: String?
  package var sandboxID: String?
  package var templateID: String?
  /// Base64 of at most `maximumEntropyBytes` random bytes.
  package var entropy: String?
  /// The guest has just been booted or restored, so all earlier connections are stale. Needs `entropy`.
  package var newLife: Bool?

  package static let maximumEntropyBytes = 4096
  /// Longest host name. Source: sethostname(2), HOST_NAME_MAX.
  static let maximumHostnameBytes = 64

  /// The validated fields.
  package struct Validated: Sendable, Equatable {
    package var time: WallClockTime?
    package var entropy: [UInt8]
    package var hostname: String?
  }

  /// Validates the fields.
  /// - Throws: `AgentError` 400 that names the field.
  package func validated() throws(AgentError) -> Validated {
    var time: WallClockTime?
    if let timestamp {
      time = WallClockTime(rfc3339: timestamp)
      guard time != nil else { throw AgentError(.badRequest, "timestamp is not an RFC 3339 time") }
    }
    if let hostname, !Self.isHostname(hostname) { throw AgentError(.badRequest, "hostname is not a host name") }
    if let defaultUser, defaultUser.isEmpty || defaultUser.utf8.contains(0) {
      throw AgentError(.badRequest, "defaultUser is not a user name")
    }
    if let accessToken, accessToken.isEmpty { throw AgentError(.badRequest, "accessToken is empty") }
    let entropy = try decodedEntropy()
    // Without entropy, copies of a guest would generate the same random numbers.
    if newLife == true, entropy.isEmpty { throw AgentError(.badRequest, "a new life needs entropy") }
    return Validated(time: time, entropy: entropy, hostname: hostname)
  }

  private func decodedEntropy() throws(AgentError) -> [UInt8] {
    guard let entropy else { return [] }
    guard let bytes = Data(base64Encoded: entropy), bytes.count <= Self.maximumEntropyBytes else {
      throw AgentError(.badRequest, "entropy is not the base64 text of at most \(Self.maximumEntropyBytes) bytes")
    }
    return Array(bytes)
  }

  /// Source: RFC 1123, section 2.1.
  static func isHostname(_ name: String) -> Bool {
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    return name.utf8.count <= maximumHostnameBytes && labels.allSatisfy { isLabel($0) }
  }

  private static func isLabel(_ label: Substring) -> Bool {
    let bytes = Array(label.utf8)
    guard let first = bytes.first, let last = bytes.last, bytes.count <= 63 else { return false }
    let isDash = { (byte: UInt8) in byte == UInt8(ascii: "-") }
    return !isDash(first) && !isDash(last)
      && bytes.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: isDash(byte)
        }
      }
  }
}
