import Concurrency
import Glibc
package import LinuxSystem
package import Logging

/// The duties of the agent as process 1.
///
/// As process 1 of a machine it boots the machine. As process 1 of a container it only reaps orphaned processes and
/// ends with the container; it does not configure, rename or power off the machine around the container.
package struct InitProcess: Sendable {
  private static let userScore = 0
  /// Target of /proc/self/ns/pid in the initial PID namespace. Source: linux/include/linux/proc_ns.h
  /// (PROC_PID_INIT_INO).
  private static let firstNamespace = "pid:[4026531836]"

  private let signals: InitSignals
  /// nil in a container.
  private let boot: GuestBoot?

  /// Must be called before any other thread exists.
  package init(usesCgroup: Bool, logger: Logger) throws(SystemError) {
    signals = try InitSignals()
    boot = Self.isMachine() ? GuestBoot.run(usesCgroup: usesCgroup, logger: logger) : nil
  }

  /// Without /proc this is a machine that has just booted, because containers have /proc.
  private static func isMachine() -> Bool {
    var buffer = [CChar](repeating: 0, count: 64)
    let count = readlink("/proc/self/ns/pid", &buffer, buffer.count)
    return count < 0
      || String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) == firstNamespace
  }

  package func configuration(_ options: AgentOptions) throws(SystemError) -> GuestAgent.Configuration {
    guard let boot else {
      return GuestAgent.Configuration(host: options.host ?? "127.0.0.1", port: options.port, adoptsOrphans: true)
    }
    return GuestAgent.Configuration(
      host: options.host ?? "0.0.0.0", port: options.port, policy: PeerPolicy(hostLink: GuestNetwork.hostLink),
      machine: LinuxGuestMachine(userProcesses: boot.userProcesses),
      confinement: ProcessLauncher.Confinement(
        cgroups: try boot.userProcesses.map { (group) throws(SystemError) in [try group.joinDescriptor()] } ?? [],
        oomScoreAdjustment: Self.userScore),
      adoptsOrphans: true)
  }

  /// Handles the signals on the poller's thread, which also reaps the agent's own children.
  package func watchSignals(of agent: GuestAgent) throws(SystemError) {
    let signals = signals
    let reaper = agent.reaper
    let powerOff = powerOff
    let registration = Registration()
    let watch = try agent.poller.add(signals.descriptor, .readable) { _ in
      let pending = signals.drain()
      if pending.hasChildEnded { reaper.reapOrphans() }
      if pending.requestsPowerOff { Threads.start(name: "power-off") { powerOff() } }
      registration.arm()
    }
    registration.set(watch)
    watch.arm()
  }

  /// Powers off the machine, or ends the container.
  package func powerOff() {
    guard boot == nil else { return PowerOff.run() }
    PowerOff.endProcesses()
    exit(0)
  }
}

/// Holds a registration so that its own handler can arm it.
private final class Registration: Sendable {
  private let value = Mutex<DescriptorPoller.Registration?>(nil)

  func set(_ registration: DescriptorPoller.Registration) {
    value.withLock { $0 = registration }
  }

  func arm() {
    value.withLock { $0 }?.arm()
  }
}
