package import Foundation
package import Model

/// A row of `sandboxes`: a sandbox's specification and its last known state.
package struct SandboxRecord: Sendable, Equatable {
  package var spec: SandboxSpec
  package var status: SandboxStatus
  package var facts: SandboxFacts
  /// Whether a request for the sandbox resumes it when it is paused, instead of being refused.
  package var autoResumes: Bool
  /// If the sandbox is paused: whether the idle time-out paused it.
  package var isAutoPaused: Bool
  /// Why `status` is `error`, or why the sandbox ended; a sentence for the tenant.
  package var error: String?
  package var createdAt: Date
  package var lastActiveAt: Date?
  /// When the row last changed, apart from `lastActiveAt`.
  package var lastUpdated: Date
  /// The number of transitions so far.
  package var revision: Int
  /// The worker that made the last transition. Set by the repository; nil if it was not recorded.
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

/// Facts that a host reported about a sandbox that it runs.
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

/// Selects sandboxes for a page of a list.
package struct SandboxFilter: Sendable, Equatable {
  /// Nil selects all states except `stopped` and `error`.
  package var statuses: Set<SandboxStatus>?
  /// Selects sandboxes whose metadata contains all of these pairs.
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

/// A position in a list of sandboxes, newest first.
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
