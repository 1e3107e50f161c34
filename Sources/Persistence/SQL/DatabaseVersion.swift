/// A state that a database went through: what was read at one version is what the database says for as long as it has
/// that version.
///
/// A greater one is a later one. Versions are those of one `Database`, in memory: another program counts for itself.
package struct DatabaseVersion: Sendable, Hashable, Comparable {
  private let number: Int

  package init(_ number: Int = 0) {
    self.number = number
  }

  package var next: DatabaseVersion { DatabaseVersion(number + 1) }

  package static func < (one: DatabaseVersion, other: DatabaseVersion) -> Bool { one.number < other.number }
}

/// What a look-up found.
package struct Finding<Value: Sendable>: Sendable {
  package var value: Value
  /// One that the database had after the look-up began; `value` is of this version or a later one. Nil where nobody
  /// knows.
  ///
  /// Whoever needs no more than what was true when the look-up began can hand it to further ones, see `Database.find`.
  package var version: DatabaseVersion?

  package init(_ value: Value, version: DatabaseVersion?) {
    self.value = value
    self.version = version
  }

  package func map<New>(_ transform: (Value) throws -> New) rethrows -> Finding<New> {
    Finding<New>(try transform(value), version: version)
  }
}
