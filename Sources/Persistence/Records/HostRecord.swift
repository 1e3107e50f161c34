package import Foundation
package import Model

/// A row of `hosts`: a host and how control planes reach it.
package struct HostRecord: Sendable, Equatable {
  package var id: HostID
  /// The `HOST:PORT` at which other control planes reach the host.
  package var address: String
  /// The 32-byte secret with which callers and the host authenticate to each other.
  package var secret: [UInt8]
  /// When the host first registered.
  package var registeredAt: Date
  /// When the host last renewed its row.
  package var lastHeartbeat: Date

  package init(id: HostID, address: String, secret: [UInt8], registeredAt: Date, lastHeartbeat: Date? = nil) {
    self.id = id
    self.address = address
    self.secret = secret
    self.registeredAt = StoredTime.rounded(registeredAt)
    self.lastHeartbeat = StoredTime.rounded(lastHeartbeat ?? registeredAt)
  }
}
