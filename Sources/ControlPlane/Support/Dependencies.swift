package import Foundation
package import Logging

/// The clock and logger of the control plane, replaceable in tests.
package struct Dependencies: Sendable {
  package var now: @Sendable () -> Date
  package var logger: Logger

  package init(now: @escaping @Sendable () -> Date = { Date() }, logger: Logger) {
    self.now = now
    self.logger = logger
  }
}

/// Keys of structured log lines; one list for the whole control plane.
enum LogKey {
  static let sandbox = "sandbox.id"
  static let team = "team.id"
  static let host = "host.id"
  static let snapshot = "snapshot.name"
  static let status = "sandbox.status"
  static let reason = "reason"
  static let error = "error"
  static let duration = "duration.ms"
  static let count = "count"
  static let phases = "phases.ms"
}

extension Duration {
  var milliseconds: Int {
    Int(components.seconds) * 1_000 + Int(components.attoseconds / 1_000_000_000_000_000)
  }
}
