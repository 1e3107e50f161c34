/// A progress report of an image build. Long steps report every few seconds.
package struct BuildProgress: Sendable, Equatable {
  /// What is being built: `kernel`, or a template's name.
  package let subject: String
  /// A short phrase such as "downloading packages".
  package let step: String
  /// Share of the whole build that is done, 0…1, by typical durations.
  package let fraction: Double
  /// The last output line of the tool that runs, if it printed one.
  package let detail: String?

  package init(subject: String, step: String, fraction: Double, detail: String? = nil) {
    self.subject = subject
    self.step = step
    self.fraction = fraction
    self.detail = detail
  }
}
