import FoundationEssentials
package import HTTPTypes

/// The headers with which clients parametrize calls of the process and file services. Source: E2B's envd contract
package enum CallHeaders {
  private static let basicScheme = "basic "
  private static let keepAliveHeader = HTTPField.Name("Keepalive-Ping-Interval")
  static let defaultKeepAliveInterval = Duration.seconds(90)
  private static let keepAliveRangeSeconds: ClosedRange<Int64> = 1...3_600

  /// The user in whose name the call acts: the user part of HTTP Basic credentials; the password is ignored. nil when
  /// the header is missing, malformed, of another scheme, or has an empty user. Source: RFC 7617
  package static func userName(in headers: HTTPFields) -> String? {
    guard let value = headers[.authorization], value.lowercased().hasPrefix(basicScheme) else { return nil }
    let encoded = value.dropFirst(basicScheme.count).trimmingPrefix(while: { $0 == " " })
    guard let bytes = Data(base64Encoded: String(encoded)) else { return nil }
    let name = String(decoding: bytes.prefix { $0 != UInt8(ascii: ":") }, as: UTF8.self)
    return name.isEmpty ? nil : name
  }

  /// The interval of keep-alives that the client requests, 1 h at most; the default for anything but a positive number
  /// of seconds.
  package static func keepAliveInterval(in headers: HTTPFields) -> Duration {
    guard let name = keepAliveHeader, let seconds = headers[name].flatMap({ Int64($0) }), seconds > 0 else {
      return defaultKeepAliveInterval
    }
    return .seconds(min(max(seconds, keepAliveRangeSeconds.lowerBound), keepAliveRangeSeconds.upperBound))
  }
}
