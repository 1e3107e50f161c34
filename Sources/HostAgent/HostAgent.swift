import Foundation
import HostInterface
import LinuxSystem
package import Logging
import Model
import SandboxNetwork
import Synchronization
import SystemPackage

/// Makes, keeps and removes the sandboxes of one machine.
///
/// Owns what is: the journal and the live processes. VMMs are processes of their own; a new agent on the same data directory takes up
/// where a dead one stopped (`recover`).
package final class HostAgent: Sendable {
  private struct State {
    var controllers: [SandboxID: SandboxController] = [:]
    var slots: SlotPool
  }

  package let configuration: HostConfiguration
  let parts: HostParts
  let logger: Logger
  private let journal: Journal
  private let observer: StepObserver
  private let bootGate: Gate
  private let state: Mutex<State>

  package init(
    configuration: HostConfiguration, parts: HostParts, journal: Journal, observer: StepObserver = StepObserver(), logger: Logger
  ) {
    self.configuration = configuration
    self.parts = parts
    self.journal = journal
    self.observer = observer
    var logger = logger
    logger[metadataKey: "host.id"] = "\(configuration.hostID)"
    self.logger = logger
    bootGate = Gate(configuration.concurrentBoots)
    state = Mutex(State(slots: SlotPool(slots: configuration.slots)))
  }

  /// Adopts the VMMs that live, removes what a dead predecessor had begun or left, and only then returns. To be called once, first.
  package func recover() async throws {
    try Directories.create(configuration.sandboxesDirectory, mode: 0o711)
    let entries = try await journal.entries()
    let controllers = entries.map { entry in
      let controller = SandboxController(entry: entry, context: context)
      state.withLock { state in
        state.controllers[entry.id] = controller
        _ = state.slots.claim(entry.slot)
      }
      return controller
    }
    await withTaskGroup(of: Void.self) { group in
      for controller in controllers { group.addTask { await controller.recover() } }
    }
    await removeStrays(knownSlots: Set(entries.map(\.slot)), knownIDs: Set(entries.map(\.id)))
  }

  /// One round of the work that repeats: consoles are drained, removals that failed are tried again.
  package func maintain() async {
    await withTaskGroup(of: Void.self) { group in
      for controller in allControllers {
        group.addTask {
          await controller.drainConsole()
          await controller.retryRemoval()
        }
      }
    }
  }

  // MARK: - Controllers

  var allControllers: [SandboxController] {
    state.withLock { Array($0.controllers.values) }
  }

  /// - Throws: `not_found`.
  func controller(_ id: SandboxID) throws -> SandboxController {
    guard let controller = state.withLock({ $0.controllers[id] }) else { throw MartletError.sandboxNotFound(id) }
    return controller
  }

  func existingController(_ id: SandboxID) -> SandboxController? {
    state.withLock { $0.controllers[id] }
  }

  /// A controller for a new sandbox, with a slot of its own.
  func makeController(for spec: SandboxSpec) throws -> SandboxController {
    let token = spec.isSecured ? Self.randomToken() : nil
    let context = context
    let firstUserID = configuration.firstUserID
    return try state.withLock { state in
      guard state.controllers[spec.id] == nil else {
        throw MartletError(.alreadyExists, "sandbox \(spec.id) exists already")
      }
      guard let slot = state.slots.take() else {
        throw MartletError(.hostUnavailable, "this host holds its \(configuration.slots.count) sandboxes; destroy one first")
      }
      let entry = JournalEntry(spec: spec, slot: slot, userID: firstUserID + UInt32(slot), accessToken: token)
      let controller = SandboxController(entry: entry, context: context)
      state.controllers[spec.id] = controller
      return controller
    }
  }

  private var context: ControllerContext {
    ControllerContext(
      configuration: configuration, parts: parts, journal: journal, bootGate: bootGate, observer: observer,
      forget: { [weak self] id, slot in self?.forget(id, slot: slot) }, logger: logger)
  }

  private func forget(_ id: SandboxID, slot: Int) {
    state.withLock { state in
      guard state.controllers.removeValue(forKey: id) != nil else { return }
      state.slots.release(slot)
    }
  }

  private static func randomToken() -> String {
    var generator = SystemRandomNumberGenerator()
    return (0..<4).map { _ in
      let digits = String(generator.next() as UInt64, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
