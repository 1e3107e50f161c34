package import Model

/// A sandbox, the response of `GET /v1/sandboxes/{id}`.
package struct SandboxResource: Codable, Sendable, Equatable {
  package struct Isolation: Codable, Sendable, Equatable {
    package var vmm: String
    package var accelerator: String
  }

  package var id: SandboxID
  /// A `SandboxStatus`; a string because a newer server may have further values.
  package var status: String
  package var template: String?
  package var vcpus: Int?
  package var memoryMiB: Int?
  package var diskSizeMiB: Int?
  package var timeoutSeconds: Int?
  /// Whether a request to the paused sandbox resumes it.
  package var autoResume: Bool?
  /// Whether the sandbox was paused because its idle time-out had passed.
  package var autoPaused: Bool?
  package var metadata: [String: String]?
  package var hostID: String?
  package var guestIP: String?
  package var hostIP: String?
  package var isolation: Isolation?
  /// RFC 3339, like the other times.
  package var createdAt: String?
  package var startedAt: String?
  package var lastActiveAt: String?
  package var lastUpdated: String?
  /// Reason of the status `error`.
  package var error: String?
  /// Durations of the operation's phases in milliseconds, by phase.
  package var timings: [String: Double]?

  enum CodingKeys: String, CodingKey {
    case id, status, template, vcpus, metadata, isolation, error
    case memoryMiB = "memory_mb"
    case diskSizeMiB = "disk_size_mb"
    case timeoutSeconds = "timeout_sec"
    case autoResume = "auto_resume"
    case autoPaused = "auto_paused"
    case timings = "timings_ms"
    case hostID = "host_id"
    case guestIP = "guest_ip"
    case hostIP = "host_ip"
    case createdAt = "created_at"
    case startedAt = "started_at"
    case lastActiveAt = "last_active_at"
    case lastUpdated = "last_updated"
  }
}

/// Body of `POST /v1/sandboxes`; nil fields get the server's defaults.
package struct SandboxRequest: Encodable, Sendable, Equatable {
  package var template: String?
  package var vcpus: Int?
  package var memoryMiB: Int?
  package var diskSizeMiB: Int?
  package var timeoutSeconds: Int?
  package var metadata: [String: String]?
  package var envs: [String: String]?
  package var autoResume: Bool?

  package init(
    template: String? = nil, vcpus: Int? = nil, memoryMiB: Int? = nil, diskSizeMiB: Int? = nil,
    timeoutSeconds: Int? = nil,
    metadata: [String: String]? = nil, envs: [String: String]? = nil, autoResume: Bool? = nil
  ) {
    self.template = template
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskSizeMiB = diskSizeMiB
    self.timeoutSeconds = timeoutSeconds
    self.metadata = metadata
    self.envs = envs
    self.autoResume = autoResume
  }

  enum CodingKeys: String, CodingKey {
    case template, vcpus, metadata, envs
    case memoryMiB = "memory_mb"
    case diskSizeMiB = "disk_size_mb"
    case timeoutSeconds = "timeout_sec"
    case autoResume = "auto_resume"
  }
}

/// A row of `GET …/{id}/processes`.
package struct ProcessResource: Codable, Sendable, Equatable {
  package var pid: UInt32
  package var tag: String?
  package var cmd: String
  package var args: [String]?
  package var cwd: String?
}

/// Response of a background `POST /v1/sandboxes/{id}/exec`.
package struct BackgroundProcess: Codable, Sendable, Equatable {
  package var sandboxID: SandboxID
  package var cmd: String
  package var pid: UInt32
  package var tag: String?

  enum CodingKeys: String, CodingKey {
    case cmd, pid, tag
    case sandboxID = "sandbox_id"
  }
}

/// Response of `POST /v1/sandboxes/{id}/exec`.
package struct ExecResource: Codable, Sendable, Equatable {
  package var stdout: String
  package var stderr: String
  package var exitCode: Int32
  /// `base64` if the output is not UTF-8, nil for plain text.
  package var encoding: String?

  enum CodingKeys: String, CodingKey {
    case stdout, stderr, encoding
    case exitCode = "exit_code"
  }
}

/// A row of `GET /v1/snapshots`. A base template fits any shape; a snapshot has a fixed one.
package struct TemplateResource: Codable, Sendable, Equatable {
  package var name: String
  package var type: String?
  package var vcpus: Int?
  package var memoryMiB: Int?
  package var diskSizeMiB: Int?
  package var sizeBytes: Int64?
  package var createdAt: String?
  /// Whether it is a platform template, which every team may use.
  package var platform: Bool?

  enum CodingKeys: String, CodingKey {
    case name, type, vcpus, platform
    case memoryMiB = "memory_mb"
    case diskSizeMiB = "disk_size_mb"
    case sizeBytes = "size_bytes"
    case createdAt = "created_at"
  }
}

/// A file, directory or link in a guest.
package struct FileResource: Codable, Sendable, Equatable {
  package var name: String
  /// Absolute path.
  package var path: String
  /// `file`, `directory`, `symlink` or `other`.
  package var type: String
  package var size: Int64?
  /// Permission bits.
  package var mode: UInt32?
  package var permissions: String?
  package var owner: String?
  package var group: String?
  package var modifiedAt: String?
  package var symlinkTarget: String?

  enum CodingKeys: String, CodingKey {
    case name, path, type, size, mode, permissions, owner, group
    case modifiedAt = "modified_at"
    case symlinkTarget = "symlink_target"
  }
}
