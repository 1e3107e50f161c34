import Concurrency
import Disks
import Foundation
import GuestClient
import HostAPI
import Hypervisor
import Images
import LinuxSystem
import Model
import NIOCore
import Pager
import QEMU
import SandboxNetwork
import Snapshots
import SystemPackage
import Testing

/// A sandbox as the host agent would hold it, without journal and policies.
final class TestSandbox: Sendable {
  static let parentToken = "token-of-the-parent"

  struct State {
    var machine: (any VirtualMachine)?
    var pager: (any PagerProcess)?
    var disk: Disk?
    /// Generations whose disk layers are below the disk, nearest first.
    var diskChain: [GenerationID] = []
    /// What the disk lies over, nearest first.
    var layers: [DiskLayer] = []
    var overlays = 0
    /// The generation that the guest's memory was restored from.
    var parent: Generation?
    var memoryMiB = 256
    var token: String?
  }

  let fixture: VMFixture
  let id: InstanceID
  let directory: FilePath
  let network: NetworkHandle
  let userID: UInt32
  let state = Mutex(State())

  init(fixture: VMFixture, id: InstanceID, directory: FilePath, network: NetworkHandle, userID: UInt32) {
    self.fixture = fixture
    self.id = id
    self.directory = directory
    self.network = network
    self.userID = userID
  }

  var machine: any VirtualMachine {
    get throws { try #require(state.withLock { $0.machine }) }
  }

  var disk: Disk {
    get throws { try #require(state.withLock { $0.disk }) }
  }

  var client: GuestClient { client(token: state.withLock { $0.token }) }

  func client(token: String?) -> GuestClient {
    GuestClient(
      address: network.hostAddress.description, port: GuestContract.agentPort, accessToken: token,
      httpClient: fixture.http,
      logger: fixture.logger)
  }

  // MARK: - Beginning

  func boot(_ base: DiskBase, memoryMiB: Int) async throws {
    try await prepareDisk(base, memoryMiB: memoryMiB)
    try await launch(.boot)
    try await client.initialize(identity(token: Self.parentToken), deadline: .now + .seconds(120))
    state.withLock { $0.token = Self.parentToken }
  }

  func prepareDisk(_ base: DiskBase, memoryMiB: Int) async throws {
    let disk = try await makeDisk(base)
    state.withLock {
      $0.memoryMiB = memoryMiB
      $0.disk = disk
      $0.layers = [DiskLayer(name: "image", path: base.path, format: base.format)]
    }
  }

  func makeDisk(_ base: DiskBase) async throws -> Disk {
    let number = state.withLock { state in
      defer { state.overlays += 1 }
      return state.overlays
    }
    return try await fixture.disks.create(
      name: "disk-\(number)", base: base, sizeBytes: VMFixture.diskBytes, directory: directory)
  }

  func launch(_ start: VMStart, driver: QEMUDriver? = nil) async throws {
    let kernel = try fixture.images.guestKernel()
    let memoryMiB = state.withLock { $0.memoryMiB }
    let attachment = try await attachment()
    var configuration = VMConfiguration(
      id: id, start: start, vcpus: 1, memoryMiB: memoryMiB, kernel: kernel.vmlinux, initramfs: kernel.initramfs,
      kernelArguments: [
        "root=/dev/vda", "rw", "martlet.ip=\(GuestContract.guestAddress)/\(GuestContract.prefixLength)",
        "martlet.gw=\(GuestContract.gatewayAddress)", "martlet.dns=\(GuestContract.gatewayAddress)",
      ], disk: attachment, runDirectory: directory, networkNamespace: network.namespacePath, tapName: network.tapName,
      macAddress: GuestContract.guestMAC, userID: userID)
    configuration.visibleFiles = [VisibleFile(directory, isReadOnly: false)]
    let machine = try await (driver ?? fixture.driver).launch(configuration)
    state.withLock { $0.machine = machine }
  }

  func identity(token: String, sandboxID: String? = nil) -> GuestInitialization {
    var generator = SystemRandomNumberGenerator()
    return GuestInitialization(
      accessToken: token, hostname: "minimal-test", sandboxID: sandboxID ?? "sb-original",
      entropy: (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) })
  }

  func kill() async {
    let (machine, pager) = state.withLock { state in
      defer {
        state.machine = nil
        state.pager = nil
      }
      return (state.machine, state.pager)
    }
    // The tests' tasks are not cancelled.
    try? await machine?.kill()
    try? await pager?.kill()
  }

  // MARK: - In the guest

  /// Output of a shell command that root runs in the guest.
  @discardableResult
  func shell(_ command: String) async throws -> String {
    let session = try await client.start(ProcessRequest(command: "/bin/sh", arguments: ["-c", command], user: "root"))
    var output = ByteBuffer()
    for try await event in session.events {
      switch event {
      case .started: break
      case .output(_, var bytes): output.writeBuffer(&bytes)
      case .exited(let exit): try #require(exit.exitCode == 0, "\(command): \(String(buffer: output))")
      }
    }
    return String(buffer: output).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  func start(_ command: String) async throws -> any ProcessSession {
    try await client.start(ProcessRequest(command: "/bin/sh", arguments: ["-c", command], user: "root"))
  }

  /// Starts a process whose output is not read.
  func startDetached(_ command: String) async throws {
    await (try await start(command)).detach(killing: false)
  }

  /// Error of the guest's clock in seconds, minus the uncertainty of the measurement.
  func clockError() async throws -> TimeInterval {
    let begin = Date()
    try await shell("touch /tmp/now")
    let end = Date()
    let time = try await client.fileStatus("/tmp/now", user: "root").modifiedAt
    return time < begin ? time.timeIntervalSince(begin) : max(0, time.timeIntervalSince(end))
  }
}

/// Waits until `condition` holds.
func eventually(
  _ what: String, within limit: Duration = .seconds(30), _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + limit
  while try await !condition() {
    try #require(ContinuousClock.now < deadline, "did not happen in time: \(what)")
    try await Task.sleep(for: .milliseconds(20))
  }
}
