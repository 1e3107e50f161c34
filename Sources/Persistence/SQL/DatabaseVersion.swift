/// Identifies a state of a database in memory: rows that were read at one version are current as long as the database
/// has that version.
///
/// Greater versions are later. Versions are counted per `Database` instance; other programs have their own.
package struct DatabaseVersion: Sendable, Hashable, Comparable {
  private let number: Int

  package init(_ number: Int = 0) {
    self.number = number
  }

  package var next: DatabaseVersion { DatabaseVersion(number + 1) }

  package static func < (one: DatabaseVersion, other: DatabaseVersion) -> Bool { one.number < other.number }
}

/// The result of a look-up.
package struct LookUpResult<Value: Sendable>: Sendable {
  package var value: Value
  /// A version that the database had after the look-up began; `value` is of this version or a later one. Nil if
  /// unknown.
  ///
  /// A caller that needs only the state at the beginning of the look-up can pass it to further look-ups, see
  /// `Database.find`.
  package var version: DatabaseVersion?

  package init(_ value: Value, version: DatabaseVersion?) {
    self.value = value
    self.version = version
  }

  package func map<New>(_ transform: (Value) throws -> New) rethrows -> LookUpResult<New> {
    LookUpResult<New>(try transform(value), version: version)
  }
}
