import Concurrency
import HostAPI
import Model

/// Makes microVMs, each with a slot of its own, and limits how many start at the same time.
struct InstanceFactory: Sendable {
  let context: InstanceContext
  let bootSlots: AsyncSemaphore
  let restoreSlots: AsyncSemaphore

  init(_ context: InstanceContext) {
    self.context = context
    let configuration = context.configuration
    let (waiters, busy) = (configuration.maximumWaitingStarts, Self.tooManyStarts)
    bootSlots = AsyncSemaphore(permits: configuration.concurrentBoots, maximumWaiters: waiters, queueFull: busy)
    restoreSlots = AsyncSemaphore(permits: configuration.concurrentRestores, maximumWaiters: waiters, queueFull: busy)
  }

  static var tooManyStarts: MartletError {
    MartletError(.hostUnavailable, "too many sandboxes start on this host at the moment; try again")
  }

  /// - Parameter origin: the generation that it will be restored from; nil when it will be booted.
  /// - Throws: `host_unavailable` when the host is full.
  func make(_ spec: SandboxSpec, origin: GenerationID?) throws(MartletError) -> Instance {
    let slot = try context.slots.take()
    let entry = InstanceEntry(
      id: InstanceID(), slot: slot, userID: context.configuration.firstUserID + UInt32(slot), vcpus: spec.vcpus,
      memoryMiB: spec.memoryMiB,
      diskSizeMiB: spec.diskSizeMiB, network: spec.network, origin: origin)
    return Instance(entry, context: context)
  }
}
