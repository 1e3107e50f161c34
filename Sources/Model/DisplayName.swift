/// The name of a user, a team or an API key: trimmed, 1 to 100 visible characters.
package struct DisplayName: Hashable, Sendable, CustomStringConvertible {
  package let value: String

  /// - Throws: `invalid_request` with the field's name.
  package init(_ text: String, field: String = "name") throws(MartletError) {
    // Refuse long texts before examining their characters.
    guard text.utf8.count <= Limits.displayNameCharacters.upperBound * 8 else { throw Self.invalid(field) }
    var scalars = Substring(text).unicodeScalars
    while let first = scalars.first, first.properties.isWhitespace { scalars.removeFirst() }
    while let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
    guard Limits.displayNameCharacters.contains(scalars.count), scalars.allSatisfy(Self.isVisible) else {
      throw Self.invalid(field)
    }
    value = String(scalars)
  }

  package var description: String { value }

  private static func invalid(_ field: String) -> MartletError {
    MartletError(
      .invalidRequest, "\(field) must have 1 to \(Limits.displayNameCharacters.upperBound) visible characters")
  }

  /// False for control characters, line breaks and characters that change the direction of text.
  private static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned: false
    default: !(0x202A...0x202E).contains(scalar.value) && !(0x2066...0x2069).contains(scalar.value)
    }
  }
}
