import Concurrency
import LinuxSystem
package import Logging
package import Model
import SystemPackage

/// Makes and removes the networks of sandboxes on this host.
///
/// ```
/// host namespace                       namespace mrt-<slot>
/// uplink ◀─ masquerade ─ mv<slot> ════ veth0 ─ NAT, rules ─ tap0 ═══ guest 169.254.0.21
/// ```
/// Two operations on one slot never run at the same time: the second fails with `slotBusy`. Different slots are
/// independent. `prepareHost()` must have succeeded once before the first guest runs.
package final class SandboxNetworks: Sendable {
  package let configuration: NetworkConfiguration
  let runner: any CommandRunner
  let logger: Logger
  private let busySlots = Mutex<Set<Int>>([])

  package init(configuration: NetworkConfiguration, runner: any CommandRunner = SystemCommandRunner(), logger: Logger) {
    self.configuration = configuration
    self.runner = runner
    self.logger = logger
  }

  /// Makes namespace, veth pair, TAP device and rules for a slot.
  ///
  /// On an error or cancellation everything made so far is removed before this throws; the error's `undoFailures` lists
  /// what could not be removed.
  /// - Parameter ownerUID: the user that the VMM runs as, which may open the TAP device.
  /// - Throws: `slotExists` when the slot's namespace exists already; nothing is changed then.
  package func create(slot: Int, policy: NetworkPolicy, ownerUID: UInt32) async throws(NetworkError) -> NetworkHandle {
    let address = try configuration.addressing.address(of: slot)
    let egress = try Egress(policy: policy, sandboxNetwork: configuration.addressing.network)
    try claim(slot)
    defer { release(slot) }
    guard try !namespaceExists(address) else { throw NetworkError(.slotExists, slot: slot) }

    var undo: [NetworkStep] = []
    do {
      try await build(address, egress: egress, ownerUID: ownerUID, undo: &undo)
    } catch {
      throw error.with(undoFailures: await rollBack(address, undo))
    }
    return NetworkHandle(
      slot: slot, namespacePath: FilePath(address.namespacePath), hostAddress: address.namespaceSide,
      tapName: GuestContract.tapName)
  }

  /// Removes a slot's network. Every step is tried; an absent resource counts as removed.
  /// - Throws: all failures in one error. A second call continues where this one ended.
  package func remove(slot: Int) async throws(NetworkError) {
    let address = try configuration.addressing.address(of: slot)
    try claim(slot)
    defer { release(slot) }
    if await removeAtOnce(address) { return }
    let failures = await rollBack(address, NamespaceBatch.creations)
    if let error = NetworkError.joined(failures, slot: slot) { throw error }
  }

  private func claim(_ slot: Int) throws(NetworkError) {
    guard busySlots.withLock({ $0.insert(slot).inserted }) else { throw NetworkError(.slotBusy, slot: slot) }
  }

  private func release(_ slot: Int) {
    _ = busySlots.withLock { $0.remove(slot) }
  }
}

// MARK: - Steps of create

extension SandboxNetworks {
  private func build(
    _ address: SlotAddress, egress: Egress, ownerUID: UInt32, undo: inout [NetworkStep]
  ) async throws(NetworkError) {
    let batch = NamespaceBatch(address: address, linkGroup: configuration.linkGroup, ownerUID: ownerUID)
    try await createLinks(address, batch, undo: &undo)
    try await writeParameters(address)
    // The rules are loaded before the links come up.
    let rules = NamespaceRules(
      address: address, egress: egress, resolver: resolver, tableName: configuration.tableName,
      connectionLimit: configuration.connectionLimit)
    try await perform(command(.loadRules, "nft", ["-f", "-"], input: rules.text, inside: address), slot: address.slot)
    try await perform(
      command(.configureInside, "ip", ["-batch", "-"], input: batch.inside, inside: address), slot: address.slot)
  }

  /// Only the lines that a failed batch completed are undone.
  private func createLinks(
    _ address: SlotAddress, _ batch: NamespaceBatch, undo: inout [NetworkStep]
  ) async throws(NetworkError) {
    let creation = command(.createLinks, "ip", ["-batch", "-"], input: batch.outside)
    do throws(ToolError) {
      let output = try await runner.run(creation)
      let completed =
        output.isSuccess ? NamespaceBatch.creations.count : NamespaceBatch.completedLines(errorText: output.errorText)
      undo += NamespaceBatch.creations.prefix(completed ?? NamespaceBatch.creations.count)
      _ = try output.checked(creation)
    } catch {
      // If the tool was killed or its status is unknown, any line may have been executed.
      if case .failed = error.reason {} else { undo = NamespaceBatch.creations }
      throw NetworkError(.failed(.createLinks, error), slot: address.slot)
    }
  }

  private func writeParameters(_ address: SlotAddress) async throws(NetworkError) {
    do {
      try await runner.write(NamespaceBatch.parameters, namespacePath: address.namespacePath)
    } catch {
      throw NetworkError(.failed(.configureKernel, error), slot: address.slot)
    }
  }

  var resolver: IPv4Address? {
    configuration.upstreamResolver ?? UpstreamResolver.find(in: configuration.resolverFiles)
  }

  func namespaceExists(_ address: SlotAddress) throws(NetworkError) -> Bool {
    do {
      return try runner.namespaceNames().contains(address.namespaceName)
    } catch {
      throw NetworkError(.failed(.listNamespaces, error), slot: address.slot)
    }
  }
}

// MARK: - Running commands

extension SandboxNetworks {
  func command(
    _ step: NetworkStep, _ tool: String, _ arguments: [String], input: String? = nil, inside address: SlotAddress? = nil
  ) -> NetworkCommand {
    NetworkCommand(
      step, tool, arguments, input: input, namespacePath: address?.namespacePath,
      deadline: configuration.commandDeadline)
  }

  @discardableResult
  func perform(_ command: NetworkCommand, slot: Int? = nil) async throws(NetworkError) -> CommandOutput {
    do throws(ToolError) {
      return try await runner.run(command).checked(command)
    } catch {
      throw NetworkError(.failed(command.step, error), slot: slot)
    }
  }
}
