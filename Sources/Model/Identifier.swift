package import Foundation

/// A UUID that belongs to one kind of thing, so that ids of different kinds cannot be mixed up.
///
/// On the wire an id is `prefix-uuid` in lower case (`sb-5f0c…`); inside Martlet and in the database it is the bare
/// UUID. Conversion happens only at the API and RPC border.
package struct Identifier<Kind: IdentifierKind>: Hashable, Sendable, Comparable {
  package let uuid: UUID

  package init(_ uuid: UUID = UUID()) {
    self.uuid = uuid
  }

  /// Parses the wire form. Returns nil for a wrong prefix, upper-case digits, or anything that is not a UUID.
  package init?(wire: String) {
    let prefix = Kind.prefix
    guard wire.hasPrefix(prefix) else { return nil }
    let rest = wire.dropFirst(prefix.count)
    guard rest.first == "-", let uuid = UUIDText.parse(rest.dropFirst()) else { return nil }
    self.uuid = uuid
  }

  /// The form used in REST, RPC and logs.
  package var wire: String { "\(Kind.prefix)-\(uuidString)" }

  /// The bare UUID in lower case: database key and file name.
  package var uuidString: String { UUIDText.string(uuid) }

  package static func < (left: Self, right: Self) -> Bool { left.uuidString < right.uuidString }
}

package protocol IdentifierKind: Sendable {
  static var prefix: String { get }
}

package enum SandboxKind: IdentifierKind { package static let prefix = "sb" }
package enum TeamKind: IdentifierKind { package static let prefix = "team" }
package enum UserKind: IdentifierKind { package static let prefix = "usr" }
package enum APIKeyKind: IdentifierKind { package static let prefix = "key" }
package enum HostKind: IdentifierKind { package static let prefix = "host" }
package enum GenerationKind: IdentifierKind { package static let prefix = "gen" }
package enum InstanceKind: IdentifierKind { package static let prefix = "vm" }

package typealias SandboxID = Identifier<SandboxKind>
package typealias TeamID = Identifier<TeamKind>
package typealias UserID = Identifier<UserKind>
package typealias APIKeyID = Identifier<APIKeyKind>
package typealias HostID = Identifier<HostKind>
/// One immutable snapshot of a sandbox: memory, devices and disk of one moment.
package typealias GenerationID = Identifier<GenerationKind>
/// One microVM and what belongs to it on the host; a sandbox has another one after each resume.
package typealias InstanceID = Identifier<InstanceKind>

extension TeamID {
  /// Owner of the templates that every team may use (DB-4).
  package static var platform: TeamID { TeamID(UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))) }
}

extension Identifier: CustomStringConvertible {
  package var description: String { wire }
}

extension Identifier: Codable {
  package init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let id = Self(wire: text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "expected \(Kind.prefix)-{uuid}"))
    }
    self = id
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(wire)
  }
}
