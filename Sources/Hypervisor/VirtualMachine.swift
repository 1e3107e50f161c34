package import LinuxSystem
package import Model
package import SystemPackage

/// One microVM, whatever program runs it. Drivers: QEMU (and Firecracker); the host agent sees only this.
///
/// A VMM is a process of its own session that outlives the agent: a value of this type is a handle to it, made by
/// launching or by adopting.
package protocol VirtualMachine: Sendable {
  /// Process id, start time and what else a later agent needs to find this VMM again.
  var identity: VMMIdentity { get }
  /// Returns when the VMM has ended, with the reason. Any number of callers may wait.
  func waitForExit() async -> VMMExit
  /// What the VMM says about the guest. Bounded by a deadline.
  func status() async throws -> VMMStatus
  /// Console bytes since the last call (a bounded ring in the VMM: old bytes may be lost, never the newest).
  func drainConsole() async throws -> [UInt8]
  /// Ends the VMM and returns when the process is gone. Idempotent.
  func kill() async
}

package enum VMMStatus: String, Sendable {
  case running
  case paused
  /// The guest powered off, rebooted or panicked; the VMM waits to be ended.
  case guestEnded
}

package struct VMMExit: Sendable, Equatable {
  /// A sentence for the tenant, such as "the VMM was killed by signal 9".
  package var reason: String

  package init(reason: String) {
    self.reason = reason
  }
}

/// What identifies a VMM process across agent restarts; pid alone could have been reused.
package struct VMMIdentity: Sendable, Codable, Equatable {
  package var pid: Int32
  /// Field 22 of /proc/PID/stat, in clock ticks after boot.
  package var startTimeTicks: UInt64

  package init(pid: Int32, startTimeTicks: UInt64) {
    self.pid = pid
    self.startTimeTicks = startTimeTicks
  }
}

/// Everything a driver needs to start a guest cold.
package struct VMConfiguration: Sendable {
  package var id: SandboxID
  package var vcpus: Int
  package var memoryMiB: Int
  package var kernel: FilePath
  package var initramfs: FilePath
  /// Appended to the driver's own kernel arguments.
  package var kernelArguments: [String]
  /// The sandbox's writable disk, made by a `DiskBackend`.
  package var disk: DiskAttachment
  /// A directory that belongs to this sandbox alone: sockets, logs.
  package var runDirectory: FilePath
  /// The network namespace the VMM runs in (a path under /run/netns), and the TAP inside it.
  package var networkNamespace: FilePath
  package var tapName: String
  package var macAddress: String
  /// The unprivileged user and group the VMM runs as.
  package var userID: UInt32
  /// The cgroup the VMM is put into.
  package var cgroup: Cgroup?

  package init(
    id: SandboxID, vcpus: Int, memoryMiB: Int, kernel: FilePath, initramfs: FilePath, kernelArguments: [String] = [],
    disk: DiskAttachment, runDirectory: FilePath, networkNamespace: FilePath, tapName: String, macAddress: String, userID: UInt32,
    cgroup: Cgroup? = nil
  ) {
    self.id = id
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.kernel = kernel
    self.initramfs = initramfs
    self.kernelArguments = kernelArguments
    self.disk = disk
    self.runDirectory = runDirectory
    self.networkNamespace = networkNamespace
    self.tapName = tapName
    self.macAddress = macAddress
    self.userID = userID
    self.cgroup = cgroup
  }
}

/// How a VMM opens a disk.
package struct DiskAttachment: Sendable, Codable, Equatable {
  package enum Format: String, Sendable, Codable {
    case raw
    case qcow2
  }

  package var path: String
  package var format: Format

  package init(path: String, format: Format) {
    self.path = path
    self.format = format
  }
}

/// Starts and finds VMMs of one kind.
package protocol HypervisorDriver: Sendable {
  var isolation: (vmm: String, accelerator: String) { get }
  /// Starts a VMM and boots the guest; returns as soon as the VMM runs, not when the guest answers.
  func launch(_ configuration: VMConfiguration) async throws -> any VirtualMachine
  /// The VMM that a predecessor launched, or nil when it is gone.
  func adopt(_ identity: VMMIdentity, runDirectory: FilePath, cgroup: Cgroup?) async throws -> (any VirtualMachine)?
  /// VMMs of this sandbox that run although no journal names them (the agent died between launch and journal entry).
  func findOrphans(of id: SandboxID) throws -> [VMMIdentity]
}
