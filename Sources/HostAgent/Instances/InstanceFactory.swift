import HostAPI
import Model

/// Makes microVMs, each with a slot of its own, and limits how many start at the same time.
struct InstanceFactory: Sendable {
  let context: InstanceContext
  let bootGate: TaskGate
  let restoreGate: TaskGate

  init(_ context: InstanceContext) {
    self.context = context
    bootGate = TaskGate(context.configuration.concurrentBoots)
    restoreGate = TaskGate(context.configuration.concurrentRestores)
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
