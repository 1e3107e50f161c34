import Concurrency
import Foundation
import Glibc
import Hypervisor
import LinuxSystem
import Logging
import SystemPackage

/// A running QEMU: watches its process and its monitor, and determines the reason of its end.
final class QEMUMachine: VirtualMachine {
  /// Deadline for the monitor's socket to appear; programs start slowly on a busy host.
  private static let monitorDeadline: Duration = .seconds(15)
  /// Short, because a restored sandbox waits for the monitor.
  private static let monitorRetryDelay: Duration = .milliseconds(2)
  private static let logTailBytes = 8_000

  private struct State {
    var monitor: QMPClient?
    /// The single connection attempt under way: QEMU serves one connection at a time.
    var connecting: Task<QMPClient, any Error>?
    var guestEnded = false
    var isKilledByUs = false
    /// The last drained console bytes. The caller of `drainConsole` may not have written them to disk when the reason
    /// of the end is determined.
    var recentConsole: [UInt8] = []
  }

  let identity: VMMIdentity
  let process: ProcessHandle
  let directory: FilePath
  private let cgroup: Cgroup?
  private let logger: Logger
  private let state = Mutex(State())
  private let exit = Promise<VMMExit>()

  init(process: ProcessHandle, directory: FilePath, cgroup: Cgroup?, logger: Logger) {
    self.process = process
    self.directory = directory
    self.cgroup = cgroup
    self.logger = logger
    identity = VMMIdentity(pid: process.pid, startTimeTicks: process.startTimeTicks)
  }

  /// Starts watching. The two tasks end with the process. They are unstructured, because the machine outlives every
  /// call.
  func startWatching() {
    Task {
      await process.waitForExit()
      processEnded()
    }
    Task { await watchMonitor() }
  }

  func waitForExit() async throws(CancellationError) -> VMMExit {
    try await exit.value()
  }

  func status() async throws -> VMMStatus {
    struct Response: Decodable { let status: String }
    let response = try JSONDecoder().decode(Response.self, from: await monitor().execute("query-status"))
    switch response.status {
    case "running": return .running
    case "shutdown", "guest-panicked", "internal-error", "io-error": return .guestEnded
    default: return .paused
    }
  }

  func drainConsole() async throws -> [UInt8] {
    let response = try await monitor().execute(
      "ringbuf-read", ["device": "console", "size": QEMUArguments.consoleRingBytes, "format": "base64"])
    let text = try JSONDecoder().decode(String.self, from: response)
    let bytes = Data(base64Encoded: text).map { [UInt8]($0) } ?? []
    state.withLock { $0.recentConsole = Array(($0.recentConsole + bytes).suffix(Self.logTailBytes)) }
    return bytes
  }

  func kill() async throws(CancellationError) {
    state.withLock { $0.isKilledByUs = true }
    process.signal(SIGKILL)
    _ = try await waitForExit()
  }

  /// The connected monitor. Connects if necessary, as soon as the socket exists.
  func monitor() async throws -> QMPClient {
    let connecting = state.withLock { state -> Task<QMPClient, any Error> in
      if let monitor = state.monitor, !monitor.isClosed { return Task { monitor } }
      if let connecting = state.connecting { return connecting }
      // Shared by all callers that wait for the connection.
      let task = Task { try await connectMonitor() }
      state.connecting = task
      return task
    }
    return try await connecting.value
  }

  private func connectMonitor() async throws -> QMPClient {
    let deadline = ContinuousClock.now + Self.monitorDeadline
    while true {
      do {
        guard !process.hasEnded else {
          throw QMPError(command: "monitor", text: "the VMM has ended", isConnectionLost: true)
        }
        let monitor = try await QMPClient.connect(directory: directory, socket: QEMUArguments.monitorSocket) {
          [weak self] event in
          self?.handle(event: event)
        }
        state.withLock { state in
          state.monitor = monitor
          state.connecting = nil
        }
        return monitor
      } catch {
        guard !process.hasEnded, ContinuousClock.now < deadline else {
          state.withLock { $0.connecting = nil }
          throw error
        }
      }
      try? await Task.sleep(for: Self.monitorRetryDelay)
    }
  }

  /// Connects to receive events, and queries the status once, because an adopted guest may have ended before.
  private func watchMonitor() async {
    do {
      if try await status() == .guestEnded { guestEnded() }
    } catch {
      if !process.hasEnded { logger.warning("the VMM's monitor does not respond", metadata: ["error": "\(error)"]) }
    }
  }

  private func handle(event: String) {
    switch event {
    case "SHUTDOWN", "GUEST_PANICKED": guestEnded()
    default: break
    }
  }

  /// Ends the VMM after its guest has ended; drains the console first.
  private func guestEnded() {
    let isFirst = state.withLock { state in
      defer { state.guestEnded = true }
      return !state.guestEnded
    }
    guard isFirst else { return }
    // Unstructured for the same reason as the watching tasks.
    Task {
      if let console = try? await drainConsole(), !console.isEmpty {
        try? ConsoleLog(directory: directory).append(console)
      }
      process.signal(SIGKILL)
    }
  }

  private func processEnded() {
    let exit = result(process.reap())
    let monitor = state.withLock { state in
      defer { state.monitor = nil }
      return state.monitor
    }
    monitor?.close()
    logger.info("VMM ended", metadata: ["reason": "\(exit.reason)"])
    self.exit.set(exit)
  }

  private func result(_ status: ExitStatus?) -> VMMExit {
    let (guestEnded, isKilledByUs) = state.withLock { ($0.guestEnded, $0.isKilledByUs) }
    if guestEnded { return guestExit() }
    if isKilledByUs { return VMMExit(reason: "the VMM was stopped") }
    if cgroup?.wasOutOfMemory() == true {
      return VMMExit(reason: "the VMM was killed because it exceeded its memory limit")
    }
    switch status {
    case .signaled(let number): return VMMExit(reason: "the VMM was killed by signal \(number)")
    case .exited(let code): return VMMExit(reason: "the VMM ended unexpectedly with exit status \(code)")
    case nil: return VMMExit(reason: "the VMM ended unexpectedly")
    }
  }

  private func guestExit() -> VMMExit {
    let recent = state.withLock { String(decoding: $0.recentConsole, as: UTF8.self) }
    let console = recent.isEmpty ? ConsoleLog(directory: directory).tail(Self.logTailBytes) : recent
    guard let panic = console.split(separator: "\n").last(where: { $0.contains("Kernel panic") }),
      let start = panic.range(of: "Kernel panic")
    else { return VMMExit(reason: "the guest shut itself down") }
    let text = panic[start.lowerBound...].prefix(200).filter { !$0.isNewline }
    return VMMExit(reason: "the guest's kernel panicked", guestText: text)
  }
}
