import Foundation
import NIOCore

extension GuestClient {
  static func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
}

extension ByteBuffer {
  /// The readable bytes as `Data`, the type of protobuf's `bytes` fields.
  var foundationData: Data { withUnsafeReadableBytes { Data($0) } }
}
