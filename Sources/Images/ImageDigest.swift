import Model

/// Names an immutable image by its content: SHA-256 in lower-case hexadecimal.
package struct ImageDigest: Hashable, Sendable, Comparable, CustomStringConvertible {
  package let hexadecimal: String

  /// Returns nil for anything but 64 lower-case hexadecimal digits, so that a digest is safe as a path component.
  package init?(_ text: String) {
    guard text.utf8.count == 64, text.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
      return nil
    }
    hexadecimal = text
  }

  init(bytes: some Sequence<UInt8>) {
    hexadecimal = Hexadecimal.text(bytes)
  }

  package var description: String { hexadecimal }

  /// File name of the image in the store.
  var blobName: String { "sha256-\(hexadecimal).ext4" }

  /// Parses the file name of an image in the store; nil when it has another form.
  init?(blobName: String) {
    guard blobName.hasPrefix("sha256-"), blobName.hasSuffix(".ext4") else { return nil }
    self.init(String(blobName.dropFirst(7).dropLast(5)))
  }

  package static func < (left: Self, right: Self) -> Bool { left.hexadecimal < right.hexadecimal }
}

extension ImageDigest: Codable {
  package init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let digest = Self(text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "expected 64 lower-case hexadecimal digits"))
    }
    self = digest
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(hexadecimal)
  }
}
