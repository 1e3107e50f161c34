import Foundation

/// How long the database keeps what is over: rows of the audit log, and sandboxes that are stopped or failed.
package struct Retention: Sendable, Equatable {
  package static let standard = Retention(days: 90)

  private let days: Int

  /// - Parameter days: 0 keeps everything for ever.
  package init(days: Int) {
    self.days = days
  }

  /// What is older goes; nil: nothing does.
  func cutoff(at now: Date) -> Date? {
    days > 0 ? now.addingTimeInterval(-Double(days) * 86_400) : nil
  }
}
