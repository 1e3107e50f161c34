package import Foundation
package import Model
package import NIOCore

/// Bytes that arrive in pieces, pulled by the consumer: back-pressure reaches the producer.
package typealias ByteStream = any AsyncSequence<ByteBuffer, any Error> & Sendable

/// A sandbox as its host sees it.
package struct HostSandbox: Sendable, Equatable {
  package var id: SandboxID
  package var status: SandboxStatus
  /// What the sandbox really got, snapshot-locked values included.
  package var vcpus: Int
  package var memoryMiB: Int
  package var diskSizeMiB: Int
  /// Address inside the guest.
  package var guestIP: String?
  /// Address at which this host reaches the guest.
  package var hostIP: String?
  package var isolation: Isolation?
  package var startedAt: Date?
  package var lastActiveAt: Date?
  /// Why `status` is `error`; a sentence for the tenant.
  package var reason: String?
  /// For a paused sandbox: whether the idle time-out paused it (TTL-6).
  package var isAutoPaused = false
  /// Phases of the last create, pause, resume, snapshot or fork, in order.
  package var timings: [PhaseTiming] = []

  package init(
    id: SandboxID, status: SandboxStatus, vcpus: Int, memoryMiB: Int, diskSizeMiB: Int, guestIP: String? = nil,
    hostIP: String? = nil, isolation: Isolation? = nil, startedAt: Date? = nil, lastActiveAt: Date? = nil,
    reason: String? = nil,
    isAutoPaused: Bool = false, timings: [PhaseTiming] = []
  ) {
    self.id = id
    self.status = status
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskSizeMiB = diskSizeMiB
    self.guestIP = guestIP
    self.hostIP = hostIP
    self.isolation = isolation
    self.startedAt = startedAt
    self.lastActiveAt = lastActiveAt
    self.reason = reason
    self.isAutoPaused = isAutoPaused
    self.timings = timings
  }
}

/// How long one phase of an operation took (TTL-10).
package struct PhaseTiming: Sendable, Equatable, Codable {
  /// Such as `freeze`, `save_memory`, `network`, `guest`; also the `phase` label of the metric.
  package var phase: String
  package var milliseconds: Double

  package init(phase: String, milliseconds: Double) {
    self.phase = phase
    self.milliseconds = milliseconds
  }
}

package struct ResumeOptions: Sendable, Equatable {
  /// Idle time from the database, so that it survives pauses (TTL-7).
  package var timeoutSeconds: Int
  /// Resume the generation before the last one, when the last cannot be.
  package var usesPreviousGeneration: Bool

  package init(timeoutSeconds: Int = 0, usesPreviousGeneration: Bool = false) {
    self.timeoutSeconds = timeoutSeconds
    self.usesPreviousGeneration = usesPreviousGeneration
  }
}

package struct SnapshotRequest: Sendable, Equatable {
  package var sandboxID: SandboxID
  package var name: SafeName
  package var teamID: TeamID
  package var overwrites: Bool

  package init(sandboxID: SandboxID, name: SafeName, teamID: TeamID, overwrites: Bool = false) {
    self.sandboxID = sandboxID
    self.name = name
    self.teamID = teamID
    self.overwrites = overwrites
  }
}

/// What really separates a sandbox from the host, reported honestly (VMM-1).
package struct Isolation: Sendable, Equatable, Codable {
  /// `qemu` or `firecracker`.
  package var vmm: String
  /// `tcg` or `kvm`.
  package var accelerator: String

  package init(vmm: String, accelerator: String) {
    self.vmm = vmm
    self.accelerator = accelerator
  }
}

package struct HostTemplate: Sendable, Equatable {
  package enum Kind: String, Sendable, Codable {
    /// An image that is booted (once per shape; then its snapshot is restored).
    case base
    /// Memory and processes of a sandbox, frozen.
    case snapshot
  }

  package var name: SafeName
  package var teamID: TeamID
  package var kind: Kind
  /// The shape a snapshot's sandboxes have, whatever is asked for (SN-2); nil for a base template.
  package var shape: SandboxShape?
  /// Allocated bytes (DM-4).
  package var sizeBytes: Int64
  package var createdAt: Date

  package init(
    name: SafeName, teamID: TeamID, kind: Kind = .base, shape: SandboxShape? = nil, sizeBytes: Int64, createdAt: Date
  ) {
    self.name = name
    self.teamID = teamID
    self.kind = kind
    self.shape = shape
    self.sizeBytes = sizeBytes
    self.createdAt = createdAt
  }
}

/// What a memory snapshot fixes.
package struct SandboxShape: Sendable, Equatable, Codable, Hashable {
  package var vcpus: Int
  package var memoryMiB: Int
  package var diskSizeMiB: Int

  package init(vcpus: Int, memoryMiB: Int, diskSizeMiB: Int) {
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskSizeMiB = diskSizeMiB
  }
}

package struct TerminalSize: Sendable, Equatable, Codable {
  package var columns: Int
  package var rows: Int

  package init(columns: Int, rows: Int) {
    self.columns = columns
    self.rows = rows
  }
}

package struct ProcessRequest: Sendable, Equatable {
  package var command: String
  package var arguments: [String]
  package var environment: [String: String]
  package var workingDirectory: String?
  package var user: String?
  /// Whether the process gets a pipe as standard input; otherwise /dev/null.
  package var hasStandardInput: Bool
  /// With a terminal, standard output and error arrive as `.terminal` output.
  package var terminal: TerminalSize?
  package var tag: String?
  /// The guest agent kills the process when this has passed; nil or 0: never.
  package var timeout: Duration?

  package init(
    command: String, arguments: [String] = [], environment: [String: String] = [:], workingDirectory: String? = nil,
    user: String? = nil, hasStandardInput: Bool = false, terminal: TerminalSize? = nil, tag: String? = nil,
    timeout: Duration? = nil
  ) {
    self.command = command
    self.arguments = arguments
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.user = user
    self.hasStandardInput = hasStandardInput
    self.terminal = terminal
    self.tag = tag
    self.timeout = timeout
  }
}

package enum ProcessSelector: Sendable, Equatable {
  case pid(UInt32)
  case tag(String)
}

package struct GuestProcess: Sendable, Equatable {
  package var pid: UInt32
  package var tag: String?
  package var command: String
  package var arguments: [String]
  package var workingDirectory: String?
  package var environment: [String: String]

  package init(
    pid: UInt32, tag: String? = nil, command: String, arguments: [String] = [], workingDirectory: String? = nil,
    environment: [String: String] = [:]
  ) {
    self.pid = pid
    self.tag = tag
    self.command = command
    self.arguments = arguments
    self.workingDirectory = workingDirectory
    self.environment = environment
  }
}

package enum ProcessEvent: Sendable, Equatable {
  case started(pid: UInt32)
  case output(OutputStream, ByteBuffer)
  case exited(ProcessExit)

  package enum OutputStream: String, Sendable {
    case standardOutput
    case standardError
    case terminal
  }
}

package struct ProcessExit: Sendable, Equatable {
  /// The exit status, or 128 + signal number when a signal ended the process (the shell's convention).
  package var exitCode: Int32
  /// Number of the signal that ended it.
  package var signal: Int32?
  /// True when the process was killed because its time-out passed.
  package var isTimeout: Bool

  package init(exitCode: Int32, signal: Int32? = nil, isTimeout: Bool = false) {
    self.exitCode = exitCode
    self.signal = signal
    self.isTimeout = isTimeout
  }
}

/// A process in a guest and this caller's view of it.
package protocol ProcessSession: Sendable {
  var pid: UInt32 { get }
  /// `started`, then output, then `exited` as the last element; to be iterated once. A stream that breaks throws.
  /// Slow consumers slow the process down (back-pressure), nothing is dropped.
  var events: any AsyncSequence<ProcessEvent, any Error> & Sendable { get }
  /// Writes to standard input, or to the terminal; returns when the guest has taken the bytes.
  func write(_ bytes: ByteBuffer) async throws
  func closeStandardInput() async throws
  func resize(_ size: TerminalSize) async throws
  /// Signals the process and everything in its process group.
  func signal(_ signal: Int32) async throws
  /// Stops listening. The process lives on unless `killing` is set. Idempotent.
  func detach(killing: Bool) async
}

package struct FileDownload: Sendable {
  /// Nil when the guest does not know it beforehand (for example files in /proc).
  package var sizeBytes: Int64?
  package var body: ByteStream
  /// Ends `body` with an error for whoever waits for its next bytes; for a source that has gone without a word.
  package var interrupt: @Sendable (MartletError) -> Void

  package init(sizeBytes: Int64?, body: ByteStream, interrupt: @escaping @Sendable (MartletError) -> Void = { _ in }) {
    self.sizeBytes = sizeBytes
    self.body = body
    self.interrupt = interrupt
  }
}

package struct FileEntry: Sendable, Equatable {
  package enum Kind: String, Sendable, Codable {
    case file
    case directory
    case symlink
    case other
  }

  package var name: String
  /// Absolute.
  package var path: String
  package var kind: Kind
  package var sizeBytes: Int64
  /// Permission bits.
  package var mode: UInt32
  /// `ls -l` style, such as `-rw-r--r--`.
  package var permissions: String
  package var owner: String
  package var group: String
  package var modifiedAt: Date
  package var symlinkTarget: String?

  package init(
    name: String, path: String, kind: Kind, sizeBytes: Int64, mode: UInt32, permissions: String, owner: String,
    group: String,
    modifiedAt: Date, symlinkTarget: String? = nil
  ) {
    self.name = name
    self.path = path
    self.kind = kind
    self.sizeBytes = sizeBytes
    self.mode = mode
    self.permissions = permissions
    self.owner = owner
    self.group = group
    self.modifiedAt = modifiedAt
    self.symlinkTarget = symlinkTarget
  }
}

package struct GuestMetrics: Sendable, Equatable {
  package var timestamp: Date
  package var cpuPercent: Double
  package var memoryBytes: Int64
  package var memoryTotalBytes: Int64
  package var diskBytes: Int64
  package var diskTotalBytes: Int64

  package init(
    timestamp: Date, cpuPercent: Double, memoryBytes: Int64, memoryTotalBytes: Int64, diskBytes: Int64,
    diskTotalBytes: Int64
  ) {
    self.timestamp = timestamp
    self.cpuPercent = cpuPercent
    self.memoryBytes = memoryBytes
    self.memoryTotalBytes = memoryTotalBytes
    self.diskBytes = diskBytes
    self.diskTotalBytes = diskTotalBytes
  }
}
