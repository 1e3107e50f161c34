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

  // Snapshots. All are bounded by deadlines; a failure leaves the VM as it was unless said otherwise.

  /// For a VMM launched with `.restore`: loads the device state, then returns with the guest stopped and its disk not
  /// yet open. After a failure the VMM is of no use and has to be killed.
  func loadState(from file: FilePath) async throws
  /// Lets the guest run. Idempotent.
  func resume() async throws
  /// Stops the guest: vCPUs stand still, no disk or network request is under way, the disk is flushed to its file.
  /// Idempotent.
  func stop() async throws
  /// Writes the state of CPU and devices, without memory, to a new file. The guest must be stopped, and stays so. Once
  /// per stop: the guest has to run before its state can be saved again. After a failure nothing is left of the file.
  func saveState(to file: FilePath) async throws
  /// Makes a stopped guest write to `disk` from now on, an empty overlay over the disk it has, which is never written
  /// again. The disk that it had must keep its name and be readable for the VMM's user until this returns.
  func switchDisk(to disk: DiskAttachment) async throws
  /// Path of the disk that the guest writes to.
  func diskPath() async throws -> String
}

/// Where a part of a guest's physical memory is in the address space of its VMM.
///
/// The VMM (or its shim) leaves a list of these as JSON in `fileName` in its run directory, with the keys of
/// Firecracker's userfaultfd hand-shake.
package struct GuestMemoryRegion: Sendable, Codable, Equatable {
  package static let fileName = "memory-regions.json"

  package var baseHostVirtualAddress: UInt64
  package var sizeBytes: UInt64
  /// Of the region's first byte in the memory snapshot.
  package var offset: UInt64
  package var pageSizeBytes: UInt64

  enum CodingKeys: String, CodingKey {
    case baseHostVirtualAddress = "base_host_virt_addr"
    case sizeBytes = "size"
    case offset
    case pageSizeBytes = "page_size"
  }

  package init(baseHostVirtualAddress: UInt64, sizeBytes: UInt64, offset: UInt64, pageSizeBytes: UInt64) {
    self.baseHostVirtualAddress = baseHostVirtualAddress
    self.sizeBytes = sizeBytes
    self.offset = offset
    self.pageSizeBytes = pageSizeBytes
  }
}

/// How a guest begins.
package enum VMStart: Sendable, Equatable {
  /// Boots the kernel, with empty memory.
  case boot
  /// Waits for `loadState`. The VMM connects to the pager that listens on this Unix socket when it makes its memory.
  case restore(pagerSocket: FilePath)
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

/// Everything a driver needs to start a guest.
package struct VMConfiguration: Sendable {
  package var id: InstanceID
  package var start: VMStart = .boot
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
    id: InstanceID, start: VMStart = .boot, vcpus: Int, memoryMiB: Int, kernel: FilePath, initramfs: FilePath,
    kernelArguments: [String] = [],
    disk: DiskAttachment, runDirectory: FilePath, networkNamespace: FilePath, tapName: String, macAddress: String,
    userID: UInt32,
    cgroup: Cgroup? = nil
  ) {
    self.id = id
    self.start = start
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
  /// What snapshots taken here can be restored on.
  var machine: MachineDescription { get }
  /// Starts a VMM; returns as soon as it runs, not when the guest answers.
  func launch(_ configuration: VMConfiguration) async throws -> any VirtualMachine
  /// The VMM that a predecessor launched, or nil when it is gone.
  func adopt(_ identity: VMMIdentity, runDirectory: FilePath, cgroup: Cgroup?) async throws -> (any VirtualMachine)?
  /// VMMs of this instance that run although no journal names them (the agent died between launch and journal entry).
  func findOrphans(of id: InstanceID) throws -> [VMMIdentity]
}
