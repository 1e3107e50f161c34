package import Foundation
package import Model

/// A host as the control planes on one database know it: one row of `hosts`.
package struct HostRecord: Sendable, Equatable {
  package var id: HostID
  /// `HOST:PORT` at which other control planes reach it.
  package var address: String
  /// 32 bytes that prove, both ways, who may command it and that it answers.
  package var secret: [UInt8]
  /// When it was first seen.
  package var registeredAt: Date
  /// Its last sign of life.
  package var lastHeartbeat: Date

  package init(id: HostID, address: String, secret: [UInt8], registeredAt: Date, lastHeartbeat: Date? = nil) {
    self.id = id
    self.address = address
    self.secret = secret
    self.registeredAt = StoredTime.rounded(registeredAt)
    self.lastHeartbeat = StoredTime.rounded(lastHeartbeat ?? registeredAt)
  }
}
