import Concurrency
import Disks
import HostAPI
import Hypervisor
import LinuxSystem
import Logging
import Model
import Pager
import Snapshots
import SystemPackage

/// One microVM and all its resources on the host: slot, directory, disk, network, control group, pager, VMM.
///
/// It does not depend on sandboxes. Its owner calls one operation at a time, and receives an unexpected end through a
/// handler.
actor Instance {
  nonisolated let id: InstanceID
  let context: InstanceContext
  var entry: InstanceEntry
  var machine: (any VirtualMachine)?
  var pager: (any PagerProcess)?
  var timings = PhaseTimings()
  /// Whether other sandboxes will be restored from the same generation; then this restore records the working set.
  var originIsShared = false
  private var ending: Ending = .none
  private var onEnd: (@Sendable (VMMExit) async -> Void)?

  private enum Ending {
    case none
    /// The VMM ended before a handler was set.
    case ended(VMMExit)
    case reported
    /// The VMM is being ended on purpose.
    case expected
  }

  /// - Parameter entry: a new entry, or one from the journal after a restart.
  init(_ entry: InstanceEntry, context: InstanceContext) {
    id = entry.id
    self.entry = entry
    var context = context
    context.logger[metadataKey: "instance.id"] = "\(entry.id)"
    self.context = context
  }

  nonisolated var directory: FilePath { context.directory(of: id) }

  var cgroup: Cgroup? {
    context.parts.cgroups.map {
      Cgroup(hierarchy: $0, name: "slot-\(entry.slot)", parent: context.configuration.cgroupParent)
    }
  }

  // MARK: - Unexpected end

  /// Sets the handler that is called once, with the reason, when the VMM ends unexpectedly; at once when it has ended
  /// already.
  func onUnexpectedEnd(_ handler: @escaping @Sendable (VMMExit) async -> Void) async {
    onEnd = handler
    guard case .ended(let exit) = ending else { return }
    ending = .reported
    await handler(exit)
  }

  /// An unexpected end that has not been reported yet.
  var unexpectedEnd: VMMExit? {
    if case .ended(let exit) = ending { exit } else { nil }
  }

  func expectEnd() {
    if case .none = ending { ending = .expected }
  }

  /// Runs `body` unless the VMM ends first; then its end is the error, whatever error `body` has for the lost
  /// connection.
  func whileAlive<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws -> Result {
    guard let machine else { throw MartletError(.internalError, "the microVM has not been started") }
    do {
      return try await withThrowingTaskGroup(of: Result.self) { group in
        group.addTask(operation: body)
        group.addTask {
          _ = try await machine.waitForExit()
          throw VMMEnded()
        }
        defer { group.cancelAll() }
        guard let result = try await group.next() else { throw CancellationError() }
        return result
      }
    } catch {
      guard !(error is CancellationError), let end = await endError(of: machine) else { throw error }
      throw end
    }
  }

  private struct VMMEnded: Error {}

  /// The reason why the VMM has ended or is about to end; nil when it runs.
  private func endError(of machine: any VirtualMachine) async -> MartletError? {
    guard let exit = try? await waitAtMost(.seconds(1), for: { try await machine.waitForExit() }) else {
      return nil
    }
    if let failure = await pagerFailure { return MartletError(.snapshotDamaged, failure) }
    return MartletError(.agentError, "the microVM ended: \(exit.reason)")
  }

  // MARK: - Watching

  /// Watches VMM and pager until they end. The tasks reference the instance only while they report.
  func watch(_ machine: any VirtualMachine) {
    self.machine = machine
    Task { [weak self] in
      // Never cancelled; it ends with the VMM.
      guard let exit = try? await machine.waitForExit() else { return }
      await self?.vmmEnded(exit)
    }
  }

  func watch(_ pager: any PagerProcess) {
    self.pager = pager
    Task { [weak self] in
      // Never cancelled; it ends with the pager.
      guard let exit = try? await pager.waitForExit() else { return }
      await self?.pagerEnded(pager.identity, exit)
    }
  }

  private func vmmEnded(_ exit: VMMExit) async {
    guard case .none = ending else { return }
    let exit = await pagerFailure.map { VMMExit(reason: $0) } ?? exit
    guard case .none = ending else { return }
    guard let onEnd else {
      ending = .ended(exit)
      return
    }
    ending = .reported
    await onEnd(exit)
  }

  /// The pager's reason, if it ended the VM because it could not serve a page.
  private var pagerFailure: String? {
    get async {
      guard let pager else { return nil }
      // The pager ends with its VM.
      return try? await waitAtMost(.seconds(2)) { try await pager.waitForExit() }.failure
    }
  }

  /// Replaces a pager that died under a running VM: the VM stalls meanwhile, and nothing is lost.
  private func pagerEnded(_ identity: PagerIdentity, _ exit: PagerExit) async {
    guard case .none = ending, pager?.identity == identity, exit.failure == nil, let machine else { return }
    context.logger.warning("the pager of a running VM ended, a replacement takes over")
    do {
      try await replacePager(of: machine.identity.pid)
    } catch {
      guard case .none = ending else { return }
      context.logger.error("the pager could not be replaced", metadata: ["error": "\(error)"])
      // The task that watches the pager is never cancelled.
      try? await machine.kill()
    }
  }

  func replacePager(of vmm: Int32) async throws {
    guard let configuration = pagerConfiguration else { return }
    let pager = try await context.parts.memory.replace(configuration, vmm: vmm)
    entry.pager = pager.identity
    try await context.journal.update(entry)
    watch(pager)
  }

  var pagerConfiguration: PagerConfiguration? {
    entry.origin.map {
      PagerConfiguration(
        id: id, store: context.parts.snapshots.directory, generation: $0, runDirectory: directory,
        ownerUID: entry.userID,
        recordsWorkingSet: originIsShared, cgroup: cgroup)
    }
  }

  // MARK: - Console

  func drainConsole() async {
    guard let machine, let bytes = try? await machine.drainConsole(), !bytes.isEmpty else { return }
    do {
      try ConsoleLog(directory: directory).append(bytes)
    } catch {
      context.logger.warning("a guest's console could not be written", metadata: ["error": "\(error)"])
    }
  }

  var consoleTail: String { ConsoleLog(directory: directory).tail(1_000) }

  func step(_ moment: StepObserver.Moment) async throws {
    try await context.observer.observe(moment)
  }
}
