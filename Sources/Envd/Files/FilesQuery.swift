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
