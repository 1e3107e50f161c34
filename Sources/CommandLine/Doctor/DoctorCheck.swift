/// One line of `martlet doctor`: what was looked at, what was found, what to do, what is used meanwhile.
package struct DoctorCheck: Sendable, Equatable, Encodable {
  package enum Status: String, Sendable, Encodable {
    case ok
    /// Works, with less speed, density or safety, or with something else in its place.
    case degraded
    /// Sandboxes cannot run without it.
    case missing
  }

  package var name: String
  package var status: Status
  package var finding: String
  /// A sentence that says what to do; nil when nothing is to be done.
  package var remedy: String?
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
