/// A check of `martlet doctor`: its subject, the finding, the remedy, and the fallback in use.
package struct DoctorCheck: Sendable, Equatable, Encodable {
  package enum Status: String, Sendable, Encodable {
    case ok
    /// Sandboxes run, but slower, fewer or less isolated, or with a fallback.
    case degraded
    /// Sandboxes cannot run.
    case missing
  }

  package var name: String
  package var status: Status
  package var finding: String
  /// How to fix the problem; nil if there is none.
  package var remedy: String?
  /// The fallback in use.
  package var usedInstead: String?

  package init(_ name: String, _ status: Status, _ finding: String, remedy: String? = nil, usedInstead: String? = nil) {
    self.name = name
    self.status = status
    self.finding = finding
    self.remedy = remedy
    self.usedInstead = usedInstead
  }

  enum CodingKeys: String, CodingKey {
    case name, status, finding, remedy
    case usedInstead = "used_instead"
  }
}
