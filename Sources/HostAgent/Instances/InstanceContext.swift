import Concurrency
import LinuxSystem
import Logging
import Model
import SandboxNetwork
import Snapshots
import SystemPackage

/// Dependencies shared by all microVMs of a host.
struct InstanceContext: Sendable {
  let configuration: HostConfiguration
  let parts: HostParts
  let journal: Journal
  let slots: Slots
  let observer: StepObserver
  var logger: Logger

  func directory(of id: InstanceID) -> FilePath { configuration.instancesDirectory.appending(id.uuidString) }
}

/// The slot numbers of a host.
final class Slots: Sendable {
  private let pool: Mutex<SlotPool>
  private let capacity: Int

  init(_ slots: Range<Int>) {
    pool = Mutex(SlotPool(slots: slots))
    capacity = slots.count
  }

  /// - Throws: `host_unavailable` when all slots are taken.
  func take() throws(MartletError) -> Int {
    guard let slot = pool.withLock({ $0.take() }) else {
      throw MartletError(
        .hostUnavailable, "this host runs its maximum of \(capacity) microVMs; pause or destroy a sandbox first")
    }
    return slot
  }

  func claim(_ slot: Int) { _ = pool.withLock { $0.claim(slot) } }
  func release(_ slot: Int) { pool.withLock { _ = $0.release(slot) } }
}
