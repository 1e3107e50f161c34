/// The specification of a sandbox, which the control plane completes before a host creates the sandbox.
package struct SandboxSpec: Sendable, Codable, Equatable {
  /// Chosen by the control plane; the same in REST, database, RPC and on the host.
  package var id: SandboxID
  package var teamID: TeamID
  package var template: SafeName
  package var vcpus: Int
  package var memoryMiB: Int
  /// Size of the root file system as the guest sees it.
  package var diskSizeMiB: Int
  /// Idle time-out after which the sandbox is paused; 0 for none.
  package var timeoutSeconds: Int
  package var metadata: [String: String]
  /// Environment variables of every user process in the guest.
  package var envs: [String: String]
  package var network: NetworkPolicy
  /// Whether the guest agent demands a per-sandbox token on every call.
  package var isSecured: Bool

  package init(
    id: SandboxID = SandboxID(), teamID: TeamID, template: SafeName = .minimal, vcpus: Int = 1, memoryMiB: Int = 512,
    diskSizeMiB: Int = 5120, timeoutSeconds: Int = 0, metadata: [String: String] = [:], envs: [String: String] = [:],
    network: NetworkPolicy = NetworkPolicy(), isSecured: Bool = true
  ) {
    self.id = id
    self.teamID = teamID
    self.template = template
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskSizeMiB = diskSizeMiB
    self.timeoutSeconds = timeoutSeconds
    self.metadata = metadata
    self.envs = envs
    self.network = network
    self.isSecured = isSecured
  }
}

/// The networks that a sandbox may reach. Traffic to the host, other sandboxes, the metadata address and private ranges
/// is denied by default.
package struct NetworkPolicy: Sendable, Codable, Equatable {
  /// Whether the sandbox reaches the internet at all (DNS included).
  package var allowsEgress: Bool
  /// Private or public networks, in CIDR form, allowed although a default rule denies them.
  package var allow: [String]
  /// Networks, in CIDR form, denied although egress is on.
  package var deny: [String]

  package init(allowsEgress: Bool = true, allow: [String] = [], deny: [String] = []) {
    self.allowsEgress = allowsEgress
    self.allow = allow
    self.deny = deny
  }
}

/// Bounds of request parameters; documented in docs/specification.md.
package enum Limits {
  package static let vcpus = 1...32
  package static let memoryMiB = 128...65_536
  package static let diskSizeMiB = 256...1_048_576
  package static let timeoutSeconds = 0...2_592_000
  /// Number of forks that one call creates.
  package static let forkCount = 1...100
  package static let execTimeoutSeconds = 0...86_400
  package static let mapEntries = 64
  package static let mapKeyBytes = 256
  package static let mapValueBytes = 4_096
  package static let argumentCount = 4_096
  /// Sum of all argument and environment bytes; below Linux's limit of 2 MiB (execve(2)).
  package static let argumentBytes = 1_048_576
  package static let pathBytes = 4_096
  package static let userNameBytes = 256
  package static let tagBytes = 128
  package static let networkEntries = 64
  package static let listPage = 1...100
  package static let defaultListPage = 100
  /// A JSON request body.
  package static let requestBodyBytes = 2_097_152
  /// Collected output of `exec`, each for stdout and stderr; longer output is an error that refers to exec/stream.
  package static let execOutputBytes = 8_388_608
  /// A file that is written or read through the routes without `stream`.
  package static let plainFileBytes = 104_857_600
  package static let webSocketFrameBytes = 1_048_576
  package static let emailBytes = 254
  /// Names of users, teams and API keys.
  package static let displayNameCharacters = 1...100
  package static let teamsPerUser = 64
  package static let membersPerTeam = 1_000
  package static let keysPerTeam = 256
  package static let idempotencyKeyBytes = 1...255
  /// Each bound of a team's quota.
  package static let quota = 0...1_000_000_000
}

extension SandboxSpec {
  /// Checks every field against `Limits`.
  /// - Throws: `invalid_request` with the field's name and bounds.
  package func validate() throws(MartletError) {
    try Self.check(vcpus, in: Limits.vcpus, "vcpus")
    try Self.check(memoryMiB, in: Limits.memoryMiB, "memory_mb")
    try Self.check(diskSizeMiB, in: Limits.diskSizeMiB, "disk_size_mb")
    try Self.check(timeoutSeconds, in: Limits.timeoutSeconds, "timeout_sec")
    try Self.check(metadata, "metadata", keysAreVariables: false)
    try Self.check(envs, "envs", keysAreVariables: true)
    try network.validate()
  }

  private static func check(_ value: Int, in bounds: ClosedRange<Int>, _ field: String) throws(MartletError) {
    guard bounds.contains(value) else {
      throw MartletError(.invalidRequest, "\(field) must be between \(bounds.lowerBound) and \(bounds.upperBound)")
    }
  }

  /// Checks a string map of a request: number of entries, sizes, and (for environments) that the keys are valid
  /// variable names.
  package static func check(_ map: [String: String], _ field: String, keysAreVariables: Bool) throws(MartletError) {
    guard map.count <= Limits.mapEntries else {
      throw MartletError(.invalidRequest, "\(field) may have at most \(Limits.mapEntries) entries")
    }
    for (key, value) in map {
      guard (1...Limits.mapKeyBytes).contains(key.utf8.count), value.utf8.count <= Limits.mapValueBytes else {
        throw MartletError(
          .invalidRequest,
          "\(field) keys must be 1 to \(Limits.mapKeyBytes) bytes and values at most \(Limits.mapValueBytes) bytes")
      }
      guard !key.utf8.contains(0), !value.utf8.contains(0) else {
        throw MartletError(.invalidRequest, "\(field) must not contain NUL bytes")
      }
      guard !keysAreVariables || !key.utf8.contains(UInt8(ascii: "=")) else {
        throw MartletError(.invalidRequest, "\(field) keys must not contain '='")
      }
    }
  }
}

extension NetworkPolicy {
  /// - Throws: `invalid_request` for a malformed network or too many entries.
  package func validate() throws(MartletError) {
    guard allow.count <= Limits.networkEntries, deny.count <= Limits.networkEntries else {
      throw MartletError(
        .invalidRequest, "network allow and deny may have at most \(Limits.networkEntries) entries each")
    }
    for text in allow + deny where IPv4Network(text) == nil {
      throw MartletError(.invalidRequest, "network entries must be IPv4 addresses or networks such as 10.1.0.0/16")
    }
  }
}
