/// The name of a person, a team or a key as people write it: trimmed, 1 to 100 characters, nothing invisible.
package struct DisplayName: Hashable, Sendable, CustomStringConvertible {
  package let value: String

  /// - Throws: `invalid_request` that names the field.
  package init(_ text: String, field: String = "name") throws(MartletError) {
    // Cheap first: a long text is not worth a look at its characters.
    guard text.utf8.count <= Limits.displayNameCharacters.upperBound * 8 else { throw Self.refusal(field) }
    var scalars = Substring(text).unicodeScalars
    while let first = scalars.first, first.properties.isWhitespace { scalars.removeFirst() }
    while let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
    guard Limits.displayNameCharacters.contains(scalars.count), scalars.allSatisfy(Self.isVisible) else {
      throw Self.refusal(field)
    }
    value = String(scalars)
  }

  package var description: String { value }

  private static func refusal(_ field: String) -> MartletError {
    MartletError(
      .invalidRequest, "\(field) must have 1 to \(Limits.displayNameCharacters.upperBound) visible characters")
  }

  /// Refuses control characters and those that turn the direction of text or break lines.
  private static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned: false
    default: !(0x202A...0x202E).contains(scalar.value) && !(0x2066...0x2069).contains(scalar.value)
    }
  }
}
