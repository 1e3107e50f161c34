package import Foundation
package import Model

/// A sandbox as the control plane wants it and last knew it: one row of `sandboxes`.
package struct SandboxRecord: Sendable, Equatable {
  package var spec: SandboxSpec
  package var status: SandboxStatus
  package var facts: SandboxFacts
  /// Whether a request for a paused sandbox resumes it instead of being refused.
  package var autoResumes: Bool
  /// For a paused sandbox: whether the idle time-out paused it.
  package var isAutoPaused: Bool
  /// Why `status` is `error`, or what ended the sandbox; a sentence for the tenant.
  package var error: String?
  package var createdAt: Date
  package var lastActiveAt: Date?
  /// When the row last changed; activity alone does not count.
  package var lastUpdated: Date
  /// Number of transitions so far.
  package var revision: Int
  /// Who made the last of them. Set by the repository; nil when nobody noted it.
  package var worker: WorkerID?

  package var id: SandboxID { spec.id }
  package var teamID: TeamID { spec.teamID }

  package init(
    spec: SandboxSpec, status: SandboxStatus = .pending, facts: SandboxFacts = SandboxFacts(),
    autoResumes: Bool = false,
    isAutoPaused: Bool = false, error: String? = nil, createdAt: Date, lastActiveAt: Date? = nil,
    lastUpdated: Date? = nil,
    revision: Int = 0, worker: WorkerID? = nil
  ) {
    self.spec = spec
    self.status = status
    self.facts = facts
    self.autoResumes = autoResumes
    self.isAutoPaused = isAutoPaused
    self.error = error
    self.createdAt = StoredTime.rounded(createdAt)
    self.lastActiveAt = lastActiveAt.map(StoredTime.rounded)
    self.lastUpdated = StoredTime.rounded(lastUpdated ?? createdAt)
    self.revision = revision
    self.worker = worker
  }
}

/// What a host told about a sandbox that it runs.
package struct SandboxFacts: Sendable, Equatable {
  package var hostID: HostID?
  package var guestIP: String?
  package var hostIP: String?
  package var vmm: String?
  package var accelerator: String?
  package var startedAt: Date?

  package init(
    hostID: HostID? = nil, guestIP: String? = nil, hostIP: String? = nil, vmm: String? = nil,
    accelerator: String? = nil,
    startedAt: Date? = nil
  ) {
    self.hostID = hostID
    self.guestIP = guestIP
    self.hostIP = hostIP
    self.vmm = vmm
    self.accelerator = accelerator
    self.startedAt = startedAt.map(StoredTime.rounded)
  }
}

/// What a list of sandboxes shows and where it goes on.
package struct SandboxFilter: Sendable, Equatable {
  /// Nil: all but `stopped` and `error`.
  package var statuses: Set<SandboxStatus>?
  /// Every pair must be in the sandbox's metadata.
  package var metadata: [String: String]
  package var limit: Int
  package var after: SandboxCursor?

  package init(
    statuses: Set<SandboxStatus>? = nil, metadata: [String: String] = [:], limit: Int, after: SandboxCursor? = nil
  ) {
    self.statuses = statuses
    self.metadata = metadata
    self.limit = limit
    self.after = after
  }
}

/// Position in a list of sandboxes, newest first.
package struct SandboxCursor: Sendable, Equatable {
  package var createdAtMicroseconds: Int64
  package var id: SandboxID

  package init(createdAtMicroseconds: Int64, id: SandboxID) {
    self.createdAtMicroseconds = createdAtMicroseconds
    self.id = id
  }

  package init(_ record: SandboxRecord) {
    self.init(createdAtMicroseconds: StoredTime.microseconds(record.createdAt), id: record.id)
  }
}
