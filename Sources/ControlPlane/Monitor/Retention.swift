package import Foundation

/// How long the database keeps audit rows, and sandboxes that are stopped or failed.
package struct Retention: Sendable, Equatable {
  package static let standard = Retention(days: 90)

  /// Of tombstones: how long a host may be away and still learn what was deleted meanwhile.
  package static let tombstones = Retention(days: 400)

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

/// How long hosts keep what no database claims.
package struct QuarantinePeriod: Sendable, Equatable {
  package static let standard = QuarantinePeriod(days: 30)
  /// An administrator is warned so long before the removal.
  static let warning: TimeInterval = 3 * 86_400
  /// Nothing is removed earlier than this after this control plane's first warning, whatever the clock says.
  static let notice: TimeInterval = 86_400

  private let days: Int

  /// - Parameter days: 0 keeps everything for ever.
  package init(days: Int) {
    self.days = days
  }

  /// Nil: never.
  package func end(of quarantinedAt: Date) -> Date? {
    days > 0 ? quarantinedAt.addingTimeInterval(Double(days) * 86_400) : nil
  }
}
