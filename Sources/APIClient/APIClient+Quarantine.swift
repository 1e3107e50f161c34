import Foundation
import NIOHTTP1

/// A row of `GET /v1/admin/quarantine`.
package struct QuarantinedResource: Codable, Sendable, Equatable {
  package var id: String
  /// `sandbox` or `snapshot`.
  package var type: String
  package var hostID: String?
  package var teamID: String
  /// Nil when the team does not exist.
  package var teamName: String?
  /// Of a snapshot.
  package var name: String?
  /// Of a sandbox.
  package var template: String?
  package var status: String?
  package var vcpus: Int?
  package var memoryMiB: Int?
  package var diskSizeMiB: Int?
  package var metadata: [String: String]?
  package var createdAt: String?
  package var quarantinedAt: String?
  package var removedAt: String?
  package var sizeBytes: Int64?

  enum CodingKeys: String, CodingKey {
    case id, type, name, template, status, vcpus, metadata
    case hostID = "host_id"
    case teamID = "team_id"
    case teamName = "team_name"
    case memoryMiB = "memory_mb"
    case diskSizeMiB = "disk_size_mb"
    case createdAt = "created_at"
    case quarantinedAt = "quarantined_at"
    case removedAt = "removed_at"
    case sizeBytes = "size_bytes"
  }
}

/// What an adopted item has become: a sandbox with an id, or a snapshot with a name.
package struct AdoptedResource: Codable, Sendable, Equatable {
  package var id: String?
  package var name: String?
  package var teamID: String?

  enum CodingKeys: String, CodingKey {
    case id, name
    case teamID = "team_id"
  }
}

extension APIClient {
  package func listQuarantine() async throws -> [QuarantinedResource] {
    try await call(.GET, "/v1/admin/quarantine")
  }

  /// - Parameters:
  ///   - team: whose it is now, when the team that it was made for does not exist.
  ///   - name: another name for a snapshot.
  package func adoptQuarantined(_ id: String, team: String?, name: String?) async throws -> AdoptedResource {
    var fields: [String: String] = [:]
    if let team { fields["team_id"] = team }
    if let name { fields["name"] = name }
    return try await call(.POST, "/v1/admin/quarantine/\(percentEncoded(id))/adopt", body: encode(fields))
  }

  package func destroyQuarantined(_ id: String) async throws {
    try await perform(.DELETE, "/v1/admin/quarantine/\(percentEncoded(id))")
  }
}
