package import Disks
package import HostAPI
package import Hypervisor
package import Images
package import LinuxSystem
package import Model
import NIOCore
package import Pager
package import SandboxNetwork
package import Snapshots

/// The dependencies of a host agent. The composition root supplies the real ones, tests supply simulated ones.
package struct HostParts: Sendable {
  package var driver: any HypervisorDriver
  package var disks: any DiskBackend
  package var network: any NetworkBackend
  package var templates: any TemplateSource
  package var guests: any GuestConnector
  package var memory: any MemoryBackend
  package var snapshots: SnapshotStore
  /// Nil on hosts without a control group controller: VMMs then run without limits, and `martlet doctor` reports that.
  package var cgroups: CgroupHierarchy?

  package init(
    driver: any HypervisorDriver, disks: any DiskBackend, network: any NetworkBackend, templates: any TemplateSource,
    guests: any GuestConnector, memory: any MemoryBackend, snapshots: SnapshotStore, cgroups: CgroupHierarchy?
  ) {
    self.driver = driver
    self.disks = disks
    self.network = network
    self.templates = templates
    self.guests = guests
    self.memory = memory
    self.snapshots = snapshots
    self.cgroups = cgroups
  }
}

package protocol NetworkBackend: Sendable {
  /// Prepares the host for sandboxes. Idempotent; existing networks stay unchanged.
  func prepareHost() async throws
  /// Reverts `prepareHost`; existing sandbox networks lose their access to other networks. Idempotent.
  func teardownHost() async throws
  func create(slot: Int, policy: NetworkPolicy, ownerUID: UInt32) async throws -> NetworkHandle
  /// Idempotent.
  func remove(slot: Int) async throws
  /// Slots of which any resource exists, regardless of its creator.
  func existingSlots() async throws -> [Int]
}

package protocol TemplateSource: Sendable {
  func template(_ name: SafeName, team: TeamID) throws -> TemplateImage
  func templates(team: TeamID?) throws -> [TemplateImage]
  func guestKernel() throws -> GuestKernel
}

/// Connects to guest agents.
package protocol GuestConnector: Sendable {
  func guest(at address: IPv4Address, accessToken: String?, id: SandboxID) -> any Guest
}

/// A guest agent as the host agent uses it: the functions of `HostClient` for one sandbox.
package protocol Guest: Sendable {
  /// Returns when the guest agent responds; retries until cancelled.
  func waitUntilHealthy() async throws
  /// Passes identity, environment, clock and entropy to a guest that has booted or was restored, before its user
  /// processes run. Retries until the guest responds or the task is cancelled.
  func initialize(_ identity: GuestIdentity) async throws
  /// Performs in a guest that has no sandbox yet what would otherwise delay its first user.
  func warmUp() async throws
  /// Writes dirty data back and stops all user processes; returns when they are stopped.
  func freeze() async throws
  /// Continues the user processes after setting the clock. Idempotent.
  func thaw() async throws

  func start(_ request: ProcessRequest) async throws -> any ProcessSession
  func attach(_ selector: ProcessSelector) async throws -> any ProcessSession
  func listProcesses() async throws -> [GuestProcess]
  func signal(_ selector: ProcessSelector, signal: Int32) async throws
  func writeFile(_ path: String, user: String?, body: ByteStream) async throws
  func readFile(_ path: String, user: String?) async throws -> FileDownload
  func listDirectory(_ path: String, depth: Int, user: String?) async throws -> [FileEntry]
  func fileStatus(_ path: String, user: String?) async throws -> FileEntry
  func makeDirectory(_ path: String, user: String?) async throws -> FileEntry
  func renameFile(from source: String, to destination: String, user: String?) async throws -> FileEntry
  func removeFile(_ path: String, user: String?) async throws
  func metrics() async throws -> GuestMetrics
}

package struct GuestIdentity: Sendable, Equatable {
  package var id: SandboxID
  package var template: SafeName
  package var envs: [String: String]
  package var accessToken: String?
  package var defaultUser: String?
  package var defaultWorkdir: String?
}
