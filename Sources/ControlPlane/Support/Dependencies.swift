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

extension Duration {
  var milliseconds: Int {
    Int(components.seconds) * 1_000 + Int(components.attoseconds / 1_000_000_000_000_000)
  }
}
