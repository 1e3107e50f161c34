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
  /// Number of slots of one agent; its address range is large enough for more.
  private static let slots = 1_024
  private static let firstUserID: UInt32 = 2_000_000

  let options: UpOptions
  let claim: InstanceClaim
  let identity: HostIdentity
  let journal: Journal
  let logger: Logger

  func make(httpClient: HTTPClient, observer: StepObserver, storeObserver: SnapshotObserver) async throws -> HostAgent {
    let data = FilePath(options.dataDirectory)
    let images = ImageStore(directory: FilePath(options.imageDirectory))
    let network = SandboxNetworks(configuration: try networkConfiguration(), logger: logger)
    let driver = try await driver(kernel: try images.guestKernel().vmlinux)
    let cgroups = CgroupHierarchy.detect()
    if cgroups == nil {
      logger.warning("VMMs run without resource limits because the host has no control groups; see martlet doctor")
    }
    var configuration = HostConfiguration(
      hostID: identity.id, dataDirectory: data, slots: 0..<Self.slots,
      firstUserID: Self.firstUserID + UInt32(claim.number * Self.slots), cgroupParent: "martlet-\(claim.number)",
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

  /// The network configuration. Each agent on the machine has its own /16 network, interface names and nftables table.
  private func networkConfiguration() throws -> NetworkConfiguration {
    let number = claim.number
    guard let network = IPv4Network("10.\(200 + number).0.0/16") else {
      throw MartletError(.internalError, "no address range for agent \(number)")
    }
    let suffix = number == 0 ? "" : "\(number)"
    var configuration = NetworkConfiguration(
      addressing: try SlotAddressing(network: network, namespacePrefix: "mrt\(suffix)-", linkPrefix: "mv\(suffix)-"))
    configuration.linkGroup += UInt32(number)
    configuration.tableName = "martlet\(suffix)"
    return configuration
  }
}
