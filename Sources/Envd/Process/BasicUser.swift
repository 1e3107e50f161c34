import FoundationEssentials
package import HTTPTypes

/// The user that a call names in the user part of HTTP Basic credentials. The password is ignored. Source: E2B's envd
/// contract; RFC 7617.
package enum BasicUser {
  private static let scheme = "basic "

  /// nil when the header is missing, malformed, of another scheme, or has an empty user.
  package static func name(in headers: HTTPFields) -> String? {
    guard let value = headers[.authorization], value.lowercased().hasPrefix(scheme) else { return nil }
    let encoded = value.dropFirst(scheme.count).trimmingPrefix(while: { $0 == " " })
    guard let bytes = Data(base64Encoded: String(encoded)) else { return nil }
    let name = String(decoding: bytes.prefix { $0 != UInt8(ascii: ":") }, as: UTF8.self)
    return name.isEmpty ? nil : name
  }
}
