package import Foundation
package import Model
package import NIOCore

/// Bytes in parts, pulled by the consumer, so that back pressure reaches the producer.
package typealias ByteStream = any AsyncSequence<ByteBuffer, any Error> & Sendable

/// A sandbox as reported by its host.
package struct HostSandbox: Sendable, Equatable {
  package var id: SandboxID
  package var status: SandboxStatus
  /// The actual shape, which a snapshot fixes.
  package var vcpus: Int
  package var memoryMiB: Int
  package var diskSizeMiB: Int
  /// The address inside the guest.
  package var guestIP: String?
  /// The address at which the host reaches the guest.
  package var hostIP: String?
  package var isolation: Isolation?
  package var startedAt: Date?
  package var lastActiveAt: Date?
  /// Why `status` is `error`; a sentence for the tenant.
  package var reason: String?
  /// If the sandbox is paused: whether the idle time-out paused it.
  package var isAutoPaused = false
  /// The phases of the last create, pause, resume, snapshot or fork, in order.
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

/// The duration of one phase of an operation.
package struct PhaseTiming: Sendable, Equatable, Codable {
  /// A name such as `freeze`, `save_memory`, `network`, `guest`; also the `phase` label of the metric.
  package var phase: String
  package var milliseconds: Double

  package init(phase: String, milliseconds: Double) {
    self.phase = phase
    self.milliseconds = milliseconds
  }
}

package struct ResumeOptions: Sendable, Equatable {
  /// The idle time-out, which the database keeps across pauses.
  package var timeoutSeconds: Int
  /// Whether to resume the generation before the last one, if the last one cannot be restored.
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

/// The actual isolation of a sandbox from its host.
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
    /// An image that is booted, once per shape; afterwards its snapshot is restored.
    case base
    /// The memory, processes and disk of a sandbox at one moment.
    case snapshot
  }

  package var name: SafeName
  package var teamID: TeamID
  package var kind: Kind
  /// The shape of all sandboxes from a snapshot; nil for a base template.
  package var shape: SandboxShape?
  /// The number of bytes allocated on disk.
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

/// The values that a memory snapshot fixes.
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
  /// Whether standard input is a pipe; otherwise it is /dev/null.
  package var hasStandardInput: Bool
  /// If set, the process runs in a terminal, and its standard output and error arrive as `.terminal` output.
  package var terminal: TerminalSize?
  package var tag: String?
  /// The guest agent kills the process after this time; nil or 0 means never.
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
  /// The number of the signal that ended the process.
  package var signal: Int32?
  /// Whether the process was killed because its time-out passed.
  package var isTimeout: Bool

  package init(exitCode: Int32, signal: Int32? = nil, isTimeout: Bool = false) {
    self.exitCode = exitCode
    self.signal = signal
    self.isTimeout = isTimeout
  }
}

/// A caller's connection to a process in a guest.
package protocol ProcessSession: Sendable {
  var pid: UInt32 { get }
  /// `started`, then output, then `exited` as the last element; may be iterated once. Throws if the connection is lost.
  /// Slow consumers slow the process down (back pressure); no output is dropped.
  var events: any AsyncSequence<ProcessEvent, any Error> & Sendable { get }
  /// Writes to standard input or the terminal; returns when the guest has accepted the bytes.
  func write(_ bytes: ByteBuffer) async throws
  func closeStandardInput() async throws
  func resize(_ size: TerminalSize) async throws
  /// Signals the process and everything in its process group.
  func signal(_ signal: Int32) async throws
  /// Ends the session. The process continues unless `killing` is true. Idempotent.
  func detach(killing: Bool) async
}

package struct FileDownload: Sendable {
  /// Nil when the guest does not know the size in advance, such as for files in /proc.
  package var sizeBytes: Int64?
  package var body: ByteStream
  /// Makes a pending read of `body` throw the given error; used when the source has disappeared without an end of
  /// stream.
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
  /// The absolute path.
  package var path: String
  package var kind: Kind
  package var sizeBytes: Int64
  /// The permission bits.
  package var mode: UInt32
  /// In the format of `ls -l`, such as `-rw-r--r--`.
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
