package import Foundation
package import Model

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
