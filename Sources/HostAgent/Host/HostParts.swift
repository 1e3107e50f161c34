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

/// What a host agent is built from. The composition root picks the real ones, tests the simulated ones.
package struct HostParts: Sendable {
  package var driver: any HypervisorDriver
  package var disks: any DiskBackend
  package var network: any NetworkBackend
  package var templates: any TemplateSource
  package var guests: any GuestConnector
  package var memory: any MemoryBackend
  package var snapshots: SnapshotStore
  /// Nil on hosts without a control group controller: VMMs then run unbounded, and `martlet doctor` says so.
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
  /// Makes the host ready for sandboxes. Idempotent; networks that exist stay as they are.
  func prepareHost() async throws
  /// Takes back what `prepareHost` made; networks that exist lose their way out. Idempotent.
  func teardownHost() async throws
  func create(slot: Int, policy: NetworkPolicy, ownerUID: UInt32) async throws -> NetworkHandle
  /// Idempotent.
  func remove(slot: Int) async throws
  /// Slots of which anything exists, whoever made it.
  func existingSlots() async throws -> [Int]
}

package protocol TemplateSource: Sendable {
  func template(_ name: SafeName, team: TeamID) throws -> TemplateImage
  func templates(team: TeamID?) throws -> [TemplateImage]
  func guestKernel() throws -> GuestKernel
}

/// Makes connections to guest agents.
package protocol GuestConnector: Sendable {
  func guest(at address: IPv4Address, accessToken: String?, id: SandboxID) -> any Guest
}

/// A guest agent as the host uses it: what `HostClient` offers, for one sandbox.
package protocol Guest: Sendable {
  /// Returns when the agent answers; retries until cancelled.
  func waitUntilHealthy() async throws
  /// Tells a guest that has booted or was restored who it is, what time it is and what is random, before its processes
  /// run (on). Retries until it answers, or the task is cancelled.
  func initialize(_ identity: GuestIdentity) async throws
  /// Makes a guest that nobody uses yet do once what the first user would otherwise wait for.
  func warmUp() async throws
  /// Writes dirty data back and stops all user processes; returns when they stand still.
  func freeze() async throws
  /// Lets user processes run on, with the time that it is now. Idempotent.
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
