import Foundation

/// How long the database keeps audit rows, and sandboxes that are stopped or failed.
package struct Retention: Sendable, Equatable {
  package static let standard = Retention(days: 90)

  private let days: Int

  /// - Parameter days: 0 disables deletion.
  package init(days: Int) {
    self.days = days
  }

  /// Rows from before this time are deleted; nil disables deletion.
  func cutoff(at now: Date) -> Date? {
    days > 0 ? now.addingTimeInterval(-Double(days) * 86_400) : nil
  }
}
