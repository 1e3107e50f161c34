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

/// A wall-clock time with nanoseconds, parsed from RFC 3339.
package struct WallClockTime: Sendable, Equatable {
  /// Since 1970-01-01T00:00:00Z.
  package var seconds: Int64
  /// 0 ..< 1,000,000,000
  package var nanoseconds: Int64

  package init(seconds: Int64, nanoseconds: Int64) {
    self.seconds = seconds
    self.nanoseconds = nanoseconds
  }

  /// - Parameter duration: must not be negative.
  package func advanced(by duration: Duration) -> WallClockTime {
    let (whole, attoseconds) = duration.components
    let sum = nanoseconds + attoseconds / 1_000_000_000
    return WallClockTime(seconds: seconds + whole + sum / 1_000_000_000, nanoseconds: sum % 1_000_000_000)
  }

  /// nil unless the text is `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)`. Digits after the ninth of the fraction are
  /// ignored. Source: RFC 3339, section 5.6.
  package init?(rfc3339 text: String) {
    var scanner = Scanner(rest: Substring(text))
    guard let year = scanner.number(4), scanner.skip("-"), let month = scanner.number(2), scanner.skip("-"),
      let day = scanner.number(2), scanner.skip("T") || scanner.skip("t") || scanner.skip(" "),
      let hour = scanner.number(2),
      scanner.skip(":"), let minute = scanner.number(2), scanner.skip(":"), let second = scanner.number(2),
      let fraction = scanner.fraction(), let offset = scanner.offset(), scanner.rest.isEmpty
    else { return nil }
    guard (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60 else { return nil }
    seconds = Self.days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset
    nanoseconds = fraction
  }

  /// Days since 1970-01-01 of the proleptic Gregorian calendar.
  /// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
  private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
    let year = month <= 2 ? year - 1 : year
    let era = year / 400
    let yearOfEra = year - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  private struct Scanner {
    var rest: Substring

    mutating func skip(_ character: Character) -> Bool {
      guard rest.first == character else { return false }
      rest.removeFirst()
      return true
    }

    mutating func number(_ digits: Int) -> Int64? {
      let text = rest.prefix(digits)
      guard text.utf8.count == digits, text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
      rest = rest.dropFirst(digits)
      return Int64(text)
    }

    mutating func fraction() -> Int64? {
      guard skip(".") else { return 0 }
      let digits = rest.prefix { ("0"..."9").contains($0) }
      guard !digits.isEmpty else { return nil }
      rest = rest.dropFirst(digits.count)
      let nine = digits.prefix(9)
      return Int64(nine + String(repeating: "0", count: 9 - nine.count))
    }

    mutating func offset() -> Int64? {
      if skip("Z") || skip("z") { return 0 }
      let sign: Int64 = rest.first == "-" ? -1 : 1
      guard skip("-") || skip("+"), let hours = number(2), skip(":"), let minutes = number(2), hours < 24, minutes < 60
      else { return nil }
      return sign * (hours * 3_600 + minutes * 60)
    }
  }
}
