/// What a builder says while it works; long steps speak every few seconds.
package struct BuildProgress: Sendable, Equatable {
  /// What is being built: `kernel`, or a template's name.
  package let subject: String
  /// A short phrase such as "downloading packages".
  package let step: String
  /// 0…1 of the whole build, by typical duration.
  package let fraction: Double
  /// A line of the tool that runs, when it says something.
  package let detail: String?

  package init(subject: String, step: String, fraction: Double, detail: String? = nil) {
    self.subject = subject
    self.step = step
    self.fraction = fraction
    self.detail = detail
  }
}
