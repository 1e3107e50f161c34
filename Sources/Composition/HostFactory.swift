import AsyncHTTPClient
import CommandLine
import Disks
import Foundation
import HostAPI
import HostAgent
import Images
import LinuxSystem
import Logging
import Model
import Pager
import QEMU
import SandboxNetwork
import Snapshots
import SystemPackage

/// Creates a host agent with its real dependencies; changes nothing on the host.
struct HostFactory {
  /// Slots of one agent at most; a small range of addresses has room for fewer.
  private static let maximumSlots = 1_024
  private static let firstUserID: UInt32 = 2_000_000

  let options: UpOptions
  let claim: InstanceClaim
  let identity: HostIdentity
  let journal: Journal
  let logger: Logger

  func make(httpClient: HTTPClient, observer: StepObserver, storeObserver: SnapshotObserver) async throws -> HostAgent {
    let data = FilePath(options.dataDirectory)
    let images = ImageStore(directory: FilePath(options.imageDirectory))
    let range = try options.networkRange ?? .standard(agent: claim.number)
    let network = SandboxNetworks(configuration: try .of(agent: claim.number, range), logger: logger)
    try await network.requireNoClash()
    let journal = try Journal(path: data.appending("journal.db"))
    try await requireAddresses(in: range, journal)
    try claim.reserve(range)
    let driver = try await driver(kernel: try images.guestKernel().vmlinux)
    let cgroups = CgroupHierarchy.detect()
    if cgroups == nil {
      logger.warning("VMMs run without resource limits because the host has no control groups; see martlet doctor")
    }
    var configuration = HostConfiguration(
      hostID: identity.id, dataDirectory: data,
      slots: 0..<min(Self.maximumSlots, network.configuration.addressing.capacity),
      firstUserID: Self.firstUserID + UInt32(claim.number * Self.maximumSlots), cgroupParent: "martlet-\(claim.number)",
      concurrentBoots: max(2, ProcessInfo.processInfo.activeProcessorCount))
    configuration.warmPoolSize = options.warmPool
    configuration.installation = identity.installation
    let snapshots = SnapshotStore(directory: data.appending("snapshots"), logger: logger, observer: storeObserver)
    let parts = HostParts(
      driver: driver, disks: QcowOverlays(), network: network, templates: images,
      guests: GuestClientConnector(httpClient: httpClient, logger: logger),
      memory: ProcessMemoryBackend(executable: "/proc/self/exe", store: snapshots, logger: logger),
      snapshots: snapshots,
      cgroups: cgroups)
    return HostAgent(
      configuration: configuration, parts: parts, journal: journal, observer: observer, logger: logger)
  }

  /// Sandboxes that run keep the addresses that they were started with.
  /// - Throws: `host_unavailable` when one has an address outside of `range`.
  private func requireAddresses(in range: SandboxNetworkRange, _ journal: Journal) async throws {
    let outside = try await journal.instances().compactMap(\.hostAddress).first { !range.network.contains($0) }
    guard let outside else { return }
    throw MartletError(
      .hostUnavailable,
      "a sandbox of an earlier start has the address \(outside), which is not in the range \(range); start the server "
        + "with the range that it had, pause or destroy its sandboxes, and change \(SandboxNetworkRange.option) then")
  }

  private func driver(kernel: FilePath) async throws -> QEMUDriver {
    let installation = try await QEMUInstallation.find()
    let counterFile = FilePath(options.dataDirectory).appending("counter-khz")
    async let frequency = BlockingPool.shared.run {
      CounterFrequency.settle(TimeStampCounter.measureKilohertz(), in: counterFile)
    }
    let accelerator: Accelerator
    switch options.accelerator {
    case .kvm: accelerator = .kvm
    case .tcg: accelerator = .tcg
    case .automatic:
      let cache = FilePath(options.dataDirectory).appending("accelerator.json")
      accelerator = await AcceleratorProbe(installation: installation, kernel: kernel, cacheFile: cache, logger: logger)
        .run()
    }
    return QEMUDriver(
      installation: installation, accelerator: accelerator, tscKilohertz: await frequency,
      shim: try InstalledFile.pagerShim.path(),
      logger: logger)
  }

}
