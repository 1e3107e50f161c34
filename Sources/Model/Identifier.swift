package import Foundation

/// A UUID with its kind as a type parameter, so that the compiler distinguishes ids of different kinds.
///
/// In requests and responses an id has the form `prefix-uuid` in lower case (`sb-5f0c…`); in the database it is the
/// bare UUID. Only the API and RPC layers convert between the two.
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

  /// The bare UUID in lower case, used as database key and file name.
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
package enum InstallationKind: IdentifierKind { package static let prefix = "inst" }

package typealias SandboxID = Identifier<SandboxKind>
package typealias TeamID = Identifier<TeamKind>
package typealias UserID = Identifier<UserKind>
package typealias APIKeyID = Identifier<APIKeyKind>
package typealias HostID = Identifier<HostKind>
/// Id of a generation: memory, device state and disk of one moment.
package typealias GenerationID = Identifier<GenerationKind>
/// Id of an instance: a microVM and its resources on the host. A sandbox has a new one after each resume.
package typealias InstanceID = Identifier<InstanceKind>
/// Names one control-plane database; the hosts that obey it carry the same id.
package typealias InstallationID = Identifier<InstallationKind>

extension TeamID {
  /// The platform team, which owns the templates that every team may use.
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
