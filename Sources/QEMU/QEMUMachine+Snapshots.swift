import Foundation
import Glibc
import Hypervisor
import LinuxSystem
import SystemPackage

/// Stopping, saving and loading. Source: QEMU 7.2 documentation, devel/migration.rst and interop/qemu-qmp-ref (migrate,
/// migrate-incoming, getfd, blockdev-add, blockdev-snapshot).
extension QEMUMachine {
  /// Stopping waits for pending disk requests, and the disk may be slow.
  private static let stopDeadline: Duration = .seconds(60)
  /// The state of devices is some hundred kilobytes for every guest size, but to load it QEMU reads rings in the
  /// guest's memory, whose pages a pager may have to read from a slow disk.
  private static let stateDeadline: Duration = .seconds(120)
  private static let statePollInterval: Duration = .milliseconds(1)
  /// Approximate size of the state.
  private static let probeBytes = 262_144
  private static let reasonPolls = 50
  private static let stateName = "state"
  /// A VMM that cannot load a state ends by itself, shortly after its monitor connection.
  private static let endDeadline: Duration = .seconds(2)
  private static let fileMode: UInt32 = 0o600

  func stop() async throws {
    try await monitor().execute("stop", deadline: Self.stopDeadline)
  }

  /// Also reopens the disk, which the VMM released when its state was saved, or has not opened yet when it was loaded.
  func resume() async throws {
    try await monitor().execute("cont", deadline: Self.stopDeadline)
  }

  func saveState(to file: FilePath) async throws {
    try await requireStopped("migrate")
    let descriptor = try await BlockingPool.shared.run { () throws(SystemError) in
      try OwnedDescriptor.open(file.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: Self.fileMode)
    }
    do {
      try await transfer("migrate", through: descriptor)
    } catch {
      // The guest can continue only after the attempt has ended. In a task of its own, because this one may be
      // cancelled.
      await Task { _ = try? await monitor().execute("migrate_cancel") }.value
      let failure = await BlockingPool.shared.run { Self.writeFailure(descriptor, file) }
      unlink(file.string)
      throw failure ?? error
    }
  }

  /// The reason why the file accepts no more data, which QEMU does not always report.
  private static func writeFailure(_ descriptor: OwnedDescriptor, _ file: FilePath) -> SystemError? {
    let zeros = [UInt8](repeating: 0, count: probeBytes)
    do {
      try SystemError.check("write", file.string) { write(descriptor.rawValue, zeros, zeros.count) }
      return nil
    } catch {
      return error
    }
  }

  func loadState(from file: FilePath) async throws {
    let descriptor = try await BlockingPool.shared.run { () throws(SystemError) in
      try OwnedDescriptor.open(file.string, O_RDONLY | O_NOFOLLOW)
    }
    do {
      try await transfer("migrate-incoming", through: descriptor)
    } catch let error as QMPError {
      throw await explained(error)
    }
  }

  private func transfer(_ command: String, through descriptor: OwnedDescriptor) async throws {
    let monitor = try await monitor()
    try await monitor.execute("migrate-set-capabilities", ["capabilities": Self.capabilities])
    try await monitor.execute("getfd", ["fdname": Self.stateName], passing: descriptor)
    do {
      try await monitor.execute(command, ["uri": "fd:\(Self.stateName)"])
    } catch {
      // The VMM keeps a descriptor that it did not use.
      _ = try? await monitor.execute("closefd", ["fdname": Self.stateName])
      throw error
    }
    try await awaitTransfer(command, monitor)
  }

  /// Memory is not transferred (see `GuestMemory`), and a loaded guest leaves its disk closed until it runs.
  private static let capabilities: [[String: any Sendable]] = ["x-ignore-shared", "late-block-activate"].map {
    ["capability": $0, "state": true]
  }

  private struct Transfer: Decodable {
    let status: String?
    let reason: String?

    enum CodingKeys: String, CodingKey {
      case status
      case reason = "error-desc"
    }
  }

  private func awaitTransfer(_ command: String, _ monitor: QMPClient) async throws {
    let deadline = ContinuousClock.now + Self.stateDeadline
    // QEMU reports a failure shortly before its reason.
    var pollsLeft = Self.reasonPolls
    while ContinuousClock.now < deadline {
      let transfer = try JSONDecoder().decode(Transfer.self, from: await monitor.execute("query-migrate"))
      if transfer.status == "completed" { return }
      if transfer.status == "failed" || transfer.status == "cancelled" {
        pollsLeft -= 1
        guard transfer.reason == nil, pollsLeft > 0 else {
          throw QMPError(command: command, text: transfer.reason ?? "\(transfer.status ?? "") without a reason")
        }
      }
      try await Task.sleep(for: Self.statePollInterval)
    }
    throw QMPError(command: command, text: "not completed in time")
  }

  /// Replaces the error by QEMU's log, if QEMU ended because of the state.
  private func explained(_ error: QMPError) async -> QMPError {
    let deadline = ContinuousClock.now + Self.endDeadline
    while error.isConnectionLost, !process.hasEnded, ContinuousClock.now < deadline {
      try? await Task.sleep(for: Self.statePollInterval)
    }
    let log = ConsoleLog.vmmLogTail(in: directory).split(separator: "\n").suffix(3).joined(separator: "; ")
    guard process.hasEnded, !log.isEmpty else { return error }
    return QMPError(command: error.command, text: log)
  }

  func requireStopped(_ command: String) async throws {
    guard try await status() == .paused else { throw QMPError(command: command, text: "the guest is not stopped") }
  }
}
