import Foundation

/// A JSON object of a response.
func jsonObject(_ bytes: [UInt8]) throws -> [String: Any] {
  guard let object = try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any] else {
    throw TestFailure("not a JSON object: \(String(decoding: bytes.prefix(200), as: UTF8.self))")
  }
  return object
}
