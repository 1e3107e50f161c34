package import LinuxSystem
package import Model
package import SystemPackage

/// One microVM, independent of the program that runs it. Drivers: QEMU (and Firecracker); the host agent uses only this
/// protocol.
///
/// A VMM is a process in a session of its own that outlives the host agent. A value of this type is a handle to it,
/// obtained by launching or adopting.
package protocol VirtualMachine: Sendable {
  /// Process id and start time, by which a later host agent finds this VMM again.
  var identity: VMMIdentity { get }
  /// Returns the reason when the VMM has ended. Any number of callers may wait.
  /// - Throws: when the calling task is cancelled before that.
  func waitForExit() async throws(CancellationError) -> VMMExit
  /// The state of the guest as the VMM reports it. Bounded by a deadline.
  func status() async throws -> VMMStatus
  /// Console bytes since the last call. The VMM keeps a bounded ring: old bytes may be lost, the newest never.
  func drainConsole() async throws -> [UInt8]
  /// Ends the VMM and returns when the process is gone. Idempotent.
  /// - Throws: when the calling task is cancelled before the process is gone; the signal was sent.
  func kill() async throws(CancellationError)

  // Snapshots. All calls are bounded by deadlines; a failure leaves the VM unchanged unless stated otherwise.

  /// Loads the device state into a VMM launched with `.restore`, and returns with the guest stopped and its disk not
  /// yet open. After a failure the VMM is unusable and must be killed.
  func loadState(from file: FilePath) async throws
  /// Continues the vCPUs. Idempotent.
  func resume() async throws
  /// Stops the vCPUs, completes disk and network requests, and flushes the disk to its file. Idempotent.
  func stop() async throws
  /// Writes the state of CPU and devices, without memory, to a new file. The guest must be stopped, and stays stopped.
  /// Allowed once per stop: the guest must run before its state can be saved again. After a failure the file does not
  /// exist.
  func saveState(to file: FilePath) async throws
  /// Makes a stopped guest write to `disk` from now on, an empty overlay over the disk it has, which is never written
  /// again. Does nothing when the guest writes to it already.
  func switchDisk(to disk: DiskAttachment.File) async throws
  /// Puts `attachment.layers` below the disk that the guest writes to, `attachment.disk`, in place of what is there, and
  /// closes what is of no use any more. Both have to read the same. The guest may run. After a failure the disk is as it
  /// was.
  func replaceLayers(_ attachment: DiskAttachment) async throws
  /// The disk that the guest writes to.
  func writtenDisk() async throws -> WrittenDisk
}

/// A part of a guest's physical memory in the address space of its VMM.
///
/// The VMM (or its preloaded library) writes a list of these as JSON to `fileName` in its run directory, with the keys
/// of Firecracker's userfaultfd hand-shake.
package struct GuestMemoryRegion: Sendable, Codable, Equatable {
  package static let fileName = "memory-regions.json"

  package var baseHostVirtualAddress: UInt64
  package var sizeBytes: UInt64
  /// Offset of the region's first byte in the memory snapshot.
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

/// How a guest starts.
package enum VMStart: Sendable, Equatable {
  /// Boots the kernel with empty memory.
  case boot
  /// Waits for `loadState`. The VMM connects to the pager that listens on this Unix socket when it allocates its
  /// memory.
  case restore(pagerSocket: FilePath)
}

package enum VMMStatus: String, Sendable {
  case running
  case paused
  /// The guest powered off, rebooted or panicked; the VMM waits to be ended.
  case guestEnded
}

package struct VMMExit: Sendable, Equatable {
  /// A sentence for the operator's log and the tenant, such as "the VMM was killed by signal 9". Never text from the
  /// guest.
  package var reason: String
  /// What the guest itself said last, such as the text of a kernel panic: for its tenant alone.
  package var guestText: String?

  package init(reason: String, guestText: String? = nil) {
    self.reason = reason
    self.guestText = guestText
  }

  /// What the tenant is told.
  package var tenantReason: String { guestText.map { "\(reason): \($0)" } ?? reason }
}

/// Identifies a VMM process across restarts of the host agent; a pid alone may be reused.
package struct VMMIdentity: Sendable, Codable, Equatable {
  package var pid: Int32
  /// Field 22 of /proc/PID/stat, in clock ticks after boot.
  package var startTimeTicks: UInt64

  package init(pid: Int32, startTimeTicks: UInt64) {
    self.pid = pid
    self.startTimeTicks = startTimeTicks
  }
}

/// All parameters with which a driver starts a guest.
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
  /// A directory that belongs to this instance alone: sockets, logs.
  package var runDirectory: FilePath
  /// Path of the network namespace (under /run/netns) that the VMM runs in; the TAP device is inside it.
  package var networkNamespace: FilePath
  package var tapName: String
  package var macAddress: String
  /// The unprivileged user and group the VMM runs as.
  package var userID: UInt32
  /// The control group that the VMM is put into.
  package var cgroup: Cgroup?
  /// All that the VMM sees of the host's files, beside kernel and initramfs and what belongs to its program.
  package var visibleFiles: [VisibleFile] = []

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

/// A file or directory of the host that a VMM sees.
package struct VisibleFile: Sendable, Equatable {
  package var source: FilePath
  /// Where the VMM finds it.
  package var path: FilePath
  package var isReadOnly: Bool

  /// - Parameter path: where the VMM finds it; where the host does unless given.
  package init(_ source: FilePath, at path: FilePath? = nil, isReadOnly: Bool) {
    self.source = source
    self.path = path ?? source
    self.isReadOnly = isReadOnly
  }
}

/// A disk as a VMM gets it: open files. The VMM opens none of them by name.
package struct DiskAttachment: Sendable {
  package enum Format: String, Sendable {
    case raw
    case qcow2
  }

  package struct File: Sendable {
    /// Distinguishes it from the other files that the VMM ever has; letters, digits, `-` and `_`, at most 28.
    package var name: String
    package var format: Format
    package var readable: OwnedDescriptor
    /// Of the disk that the guest writes to.
    package var writable: OwnedDescriptor?

    package init(name: String, format: Format, readable: OwnedDescriptor, writable: OwnedDescriptor? = nil) {
      self.name = name
      self.format = format
      self.readable = readable
      self.writable = writable
    }
  }

  /// What the guest writes to.
  package var disk: File
  /// What it lies over, nearest first.
  package var layers: [File]

  package init(disk: File, layers: [File]) {
    self.disk = disk
    self.layers = layers
  }
}

/// What a VMM says of the disk that its guest writes to.
package struct WrittenDisk: Sendable, Equatable {
  package var name: String
  /// Of one that the VMM opened by name, as earlier versions had it.
  package var path: String

  package init(name: String, path: String) {
    self.name = name
    self.path = path
  }
}

/// Starts and finds VMMs of one kind.
package protocol HypervisorDriver: Sendable {
  var isolation: (vmm: String, accelerator: String) { get }
  /// The machine that snapshots taken here can be restored on.
  var machine: MachineDescription { get }
  /// Starts a VMM. Returns as soon as it runs, not when the guest responds.
  func launch(_ configuration: VMConfiguration) async throws -> any VirtualMachine
  /// Returns the VMM that an earlier host agent launched.
  /// - Returns: nil when the process is known to have ended.
  /// - Throws: when that cannot be determined: the VMM may run.
  func adopt(_ identity: VMMIdentity, runDirectory: FilePath, cgroup: Cgroup?) async throws -> (any VirtualMachine)?
  /// Finds running VMMs of this instance that the journal does not contain (the host agent died between launch and
  /// journal entry).
  /// - Throws: when the host's processes cannot be listed.
  func findOrphans(of id: InstanceID) throws -> [VMMIdentity]
}
