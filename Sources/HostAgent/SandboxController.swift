import Foundation
import HostInterface
import Hypervisor
import Logging
import Model
import SystemPackage

/// The one writer of one sandbox.
///
/// Lifecycle operations run one after the other, in the order they were asked for, in tasks of their own: a caller that goes away
/// changes nothing. What may happen when is decided by `SandboxLifecycle`; this actor performs it.
actor SandboxController {
  nonisolated let id: SandboxID
  let context: ControllerContext
  var entry: JournalEntry
  var lifecycle: SandboxLifecycle
  var machine: (any VirtualMachine)?
  private(set) var guest: (any Guest)?
  private var lastActiveAt: Date?
  private var lastOperation: Task<Void, Never>?
  private var pendingOperations = 0
  /// The VMM's end when it came before creation was complete.
  var earlyExit: VMMExit?
  private var creation: Task<HostSandbox, any Error>?

  /// - Parameter entry: a new one in phase `creating`, or one that the journal held at start.
  init(entry: JournalEntry, context: ControllerContext) {
    id = entry.id
    self.entry = entry
    var context = context
    context.logger[metadataKey: "sandbox.id"] = "\(entry.id)"
    self.context = context
    let state: SandboxLifecycle.State =
      switch entry.phase {
      case .creating: .creating
      case .running: .running
      case .failed: .failed(reason: entry.reason ?? "the sandbox failed")
      case .destroying: .destroying
      }
    lifecycle = SandboxLifecycle(state)
  }

  var report: HostSandbox {
    let (status, reason): (SandboxStatus, String?) =
      switch lifecycle.state {
      case .creating: (.starting, nil)
      case .running: (.running, nil)
      case .failed(let reason): (.error, reason)
      case .destroying: (.destroying, nil)
      case .gone: (.stopped, nil)
      }
    return HostSandbox(
      id: id, status: status, vcpus: entry.spec.vcpus, memoryMiB: entry.spec.memoryMiB, diskSizeMiB: entry.spec.diskSizeMiB,
      guestIP: GuestContract.guestAddress.description, hostIP: entry.hostAddress?.description, isolation: entry.isolation,
      startedAt: entry.startedAt, lastActiveAt: lastActiveAt ?? entry.startedAt, reason: reason)
  }

  /// The guest of a running sandbox, and a note that somebody works in it.
  /// - Throws: `invalid_state` when it does not run.
  func activeGuest() throws -> any Guest {
    guard lifecycle.state == .running, let guest else {
      throw MartletError.invalidState(id, is: report.status, needs: "running")
    }
    touch()
    return guest
  }

  func touch() {
    lastActiveAt = Date()
  }

  // MARK: - Operations

  func create() async throws -> HostSandbox {
    let task = enqueue { try await self.performCreate() }
    creation = task
    return try await task.value
  }

  func destroy() async throws {
    switch lifecycle.handle(.destroyRequested) {
    case .cancelCreation:
      creation?.cancel()
      try await enqueue { try await self.performDestroy() }.value
    case .removeEverything:
      try await enqueue { try await self.performDestroy() }.value
    default:
      break  // Gone already.
    }
  }

  /// Takes up what a dead predecessor left, according to the phase it had journaled.
  func recover() async {
    _ = try? await enqueue { await self.performRecovery() }.value
  }

  func vmmEnded(_ exit: VMMExit) async {
    if lifecycle.state == .creating { earlyExit = exit }
    guard case .releaseRuntime(let reason) = lifecycle.handle(.vmmEnded(reason: exit.reason)) else { return }
    context.logger.warning("the VMM of a running sandbox ended", metadata: ["reason": "\(reason)"])
    _ = try? await enqueue { await self.performRelease(reason: reason) }.value
  }

  func drainConsole() async {
    guard lifecycle.state == .running || lifecycle.state == .creating, let machine else { return }
    guard let bytes = try? await machine.drainConsole(), !bytes.isEmpty else { return }
    do {
      try ConsoleLog(directory: context.configuration.directory(of: id)).append(bytes)
    } catch {
      context.logger.warning("a guest's console was not kept", metadata: ["error": "\(error)"])
    }
  }

  /// Tries a removal again that failed before. A removal under way is left to itself.
  func retryRemoval() async {
    guard lifecycle.state == .destroying, pendingOperations == 0 else { return }
    _ = try? await enqueue { try await self.performDestroy() }.value
  }

  /// Runs `operation` after all earlier ones, whatever becomes of the caller.
  private func enqueue<Result: Sendable>(
    _ operation: @escaping @Sendable () async throws -> Result
  ) -> Task<Result, any Error> {
    let previous = lastOperation
    pendingOperations += 1
    let task = Task {
      await previous?.value
      return try await operation()
    }
    lastOperation = Task {
      _ = await task.result
      pendingOperations -= 1
    }
    return task
  }

  // MARK: - Shared by the operations

  func setGuest(_ guest: (any Guest)?) {
    self.guest = guest
  }

  /// Watches the VMM until it ends. The task holds the controller only while it reports.
  func watch(_ machine: any VirtualMachine) {
    self.machine = machine
    Task { [weak self] in
      let exit = await machine.waitForExit()
      await self?.vmmEnded(exit)
    }
  }

  func step(_ moment: StepObserver.Moment) async throws {
    try await context.observer.observe(moment)
  }
}

/// What every controller of a host shares.
struct ControllerContext: Sendable {
  let configuration: HostConfiguration
  let parts: HostParts
  let journal: Journal
  let bootGate: Gate
  let observer: StepObserver
  /// Gives a slot back and forgets the controller; called once, when the sandbox is gone.
  let forget: @Sendable (SandboxID, _ slot: Int) -> Void
  var logger: Logger
}
