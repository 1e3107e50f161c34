import AsyncHTTPClient
import Concurrency
import Disks
import Foundation
import GuestClient
import Hypervisor
import Images
import LinuxSystem
import Logging
import Model
import QEMU
import SandboxNetwork
import Snapshots
import SystemPackage
import Testing

/// Real microVMs of the template `minimal`, each with its own network, disk, directory and, when restored, pager.
/// Everything is removed at the end.
final class VMFixture: Sendable {
  /// Directory where `make images` installs kernel and templates.
  private static let imageDirectory =
    ProcessInfo.processInfo.environment["MARTLET_IMAGE_DIR"] ?? "/var/lib/martlet/images"
  static let root = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()
    .removingLastComponent()
  private static let network = "10.219.0.0/24"
  private static let firstUserID: UInt32 = 2_190_000
  static let diskBytes: Int64 = 1 << 30

  let directory: FilePath
  private let installation: QEMUInstallation
  private let tscKilohertz: Int
  let disks = QcowOverlays()
  let networks: SandboxNetworks
  let images = ImageStore(directory: FilePath(imageDirectory))
  let store: SnapshotStore
  private let shim: FilePath
  let http = GuestClient.makeHTTPClient()
  let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  private let sandboxes = Mutex<[TestSandbox]>([])

  static func with(_ body: @Sendable (VMFixture) async throws -> Void) async throws {
    try #require(getuid() == 0, "the kernel tests need root; run them with `make test` as root")
    let fixture = try await VMFixture()
    let outcome: Result<Void, any Error>
    do {
      try await fixture.networks.prepareHost()
      outcome = .success(try await body(fixture))
    } catch {
      outcome = .failure(error)
    }
    await fixture.close()
    try outcome.get()
  }

  private init() async throws {
    directory = FilePath("/var/tmp/martlet-qemu-\(UUID().uuidString.prefix(8))")
    try Directories.create(directory, mode: 0o711)
    installation = try await QEMUInstallation.find()
    tscKilohertz = await BlockingPool.shared.run { TimeStampCounter.measureKilohertz() }
    let range = try #require(IPv4Network(Self.network))
    var configuration = NetworkConfiguration(
      addressing: try SlotAddressing(network: range, namespacePrefix: "mrtq-", linkPrefix: "mvq-"))
    configuration.linkGroup += 4_242
    configuration.tableName = "martlet-qemu-test"
    networks = SandboxNetworks(configuration: configuration, logger: logger)
    store = SnapshotStore(directory: directory.appending("store"), logger: logger)
    shim = directory.appending("shim.so")
    try await Tool.run(Self.root.appending("scripts/build-shim").string, [shim.string]).checked()
  }

  var driver: QEMUDriver { driver(shim: shim) }

  func driver(shim: FilePath) -> QEMUDriver {
    QEMUDriver(installation: installation, accelerator: .tcg, tscKilohertz: tscKilohertz, shim: shim, logger: logger)
  }

  /// Prepares a sandbox: directory and network, but no disk and no machine yet.
  func makeSandbox() async throws -> TestSandbox {
    let slot = sandboxes.withLock { $0.count }
    let id = InstanceID()
    let place = directory.appending("vm-\(slot)")
    try Directories.create(place, mode: 0o711)
    let uid = Self.firstUserID + UInt32(slot)
    let network = try await networks.create(slot: slot, policy: NetworkPolicy(), ownerUID: uid)
    let sandbox = TestSandbox(fixture: self, id: id, directory: place, network: network, userID: uid)
    sandboxes.withLock { $0.append(sandbox) }
    return sandbox
  }

  /// Boots and initializes a sandbox.
  func boot(memoryMiB: Int = 256) async throws -> TestSandbox {
    let sandbox = try await makeSandbox()
    try await sandbox.boot(try base, memoryMiB: memoryMiB)
    return sandbox
  }

  /// The base of the disks of booted sandboxes.
  var base: DiskBase {
    get throws {
      let template = try images.template(try SafeName("minimal"), team: .platform)
      return DiskBase(path: template.path, format: .raw, digest: template.digest.description)
    }
  }

  private func close() async {
    let all = sandboxes.withLock { $0 }
    for sandbox in all { await sandbox.kill() }
    for slot in all.indices { try? await networks.remove(slot: slot) }
    try? await networks.teardownHost()
    try? await http.shutdown()
    try? Directories.removeTree(directory)
  }
}
