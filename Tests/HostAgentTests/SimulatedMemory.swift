import Concurrency
import Model
import Pager
import Snapshots
import SystemPackage

@testable import HostAgent

/// Saves and serves memory whose first page is the guest's counter, in real snapshot files.
struct SimulatedMemory: MemoryBackend {
  let host: HostFixture
  let agent: Int
  let store: SnapshotStore

  func launch(_ configuration: PagerConfiguration) async throws -> any PagerProcess {
    let image = try MemoryImage.open(try store.generation(configuration.generation), in: store)
    let pager = SimulatedPager(configuration, image: image, pid: host.pid(), host: host)
    try host.act(agent) { host.add(pager) }
    return pager
  }

  func adopt(_ identity: PagerIdentity, runDirectory: FilePath) async throws -> (any PagerProcess)? {
    try host.lookUpProcess()
    return host.pager(identity.pid)
  }

  func replace(_ configuration: PagerConfiguration, vmm: Int32) async throws -> any PagerProcess {
    guard host.machine(vmm) != nil else { throw HostFixture.Failure() }
    return try await launch(configuration)
  }

  func findOrphans(of id: InstanceID) throws -> [PagerIdentity] {
    try host.lookUpProcess()
    return host.allPagers.filter { $0.configuration.id == id }.map(\.identity)
  }

  func prepareSaving(
    vmm: Int32, runDirectory: FilePath, memoryBytes: Int64, parent: Generation?, into draft: GenerationDraft
  ) async throws -> any MemorySaving {
    SimulatedSaving { try save(vmm: vmm, memoryBytes: memoryBytes, parent: parent, into: draft) }
  }

  private func save(
    vmm: Int32, memoryBytes: Int64, parent: Generation?, into draft: GenerationDraft
  ) throws -> SavedMemory {
    guard let machine = host.machine(vmm), machine.isStopped else { throw HostFixture.Failure() }
    let image = try parent.map { try MemoryImage.open($0, in: store) }
    let writer = try MemoryLayerWriter(draft, memoryBytes: memoryBytes, parent: image)
    var page = [UInt8](repeating: 0, count: MemoryGeometry.pageBytes)
    withUnsafeBytes(of: machine.counter) { page.replaceSubrange(0..<8, with: $0) }
    try page.withUnsafeBytes { try writer.append($0, at: 0) }
    let counts = try writer.finish()
    return SavedMemory(storedPages: counts.stored, zeroedPages: counts.zeroed, equalPages: counts.equal)
  }
}

private struct SimulatedSaving: MemorySaving {
  let body: @Sendable () throws -> SavedMemory

  func run() async throws -> SavedMemory { try body() }
  func abandon() async {}
}

final class SimulatedPager: PagerProcess {
  let identity: PagerIdentity
  let configuration: PagerConfiguration
  private let image: MemoryImage
  private let host: HostFixture
  private let exit = Promise<PagerExit>()

  init(_ configuration: PagerConfiguration, image: MemoryImage, pid: Int32, host: HostFixture) {
    identity = PagerIdentity(pid: pid, startTimeTicks: UInt64(pid))
    self.configuration = configuration
    self.image = image
    self.host = host
  }

  func counter() throws -> Int {
    guard image.verify(0) else { throw image.damage(at: 0) }
    switch image.source(of: 0) {
    case .zero: return 0
    case .stored(let pages): return pages.bytes.loadUnaligned(as: Int.self)
    }
  }

  func waitForExit() async throws(CancellationError) -> PagerExit { try await exit.value() }

  func end(_ failure: String?) {
    guard exit.current == nil else { return }
    host.pagerEnded(identity.pid)
    exit.set(PagerExit(failure: failure))
  }

  func kill() async { end(nil) }
}
