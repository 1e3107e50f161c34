import Glibc
package import LinuxSystem
package import Logging
import Synchronization

/// The agent as PID 1: what it adds to a plain `GuestAgent`.
package struct InitProcess: Sendable {
  private static let userScore = 0

  private let signals: InitSignals
  private let boot: GuestBoot

  /// To be made before any other thread exists.
  package init(usesCgroup: Bool, logger: Logger) throws(SystemError) {
    signals = try InitSignals()
    boot = GuestBoot.run(usesCgroup: usesCgroup, logger: logger)
  }

  package func setting(_ options: AgentOptions) throws(SystemError) -> GuestAgent.Setting {
    GuestAgent.Setting(
      host: options.host ?? "0.0.0.0", port: options.port, policy: PeerPolicy(hostLink: GuestNetwork.hostLink),
      machine: LinuxGuestMachine(userProcesses: boot.userProcesses),
      confinement: ProcessLauncher.Confinement(
        cgroups: try boot.userProcesses.map { (group) throws(SystemError) in [try group.joinDescriptor()] } ?? [],
        oomScoreAdjustment: Self.userScore),
      adoptsOrphans: true)
  }

  /// Handles the signals on the poller's thread, where the agent's own children are reaped too.
  package func watchSignals(of agent: GuestAgent) throws(SystemError) {
    let signals = signals
    let reaper = agent.reaper
    let registration = Registration()
    let watch = try agent.poller.add(signals.descriptor, .readable) { _ in
      let pending = signals.drain()
      if pending.hasChildEnded { reaper.reapOrphans() }
      if pending.asksForEnd { Threads.start(name: "power-off") { PowerOff.run() } }
      registration.arm()
    }
    registration.set(watch)
    watch.arm()
  }
}

/// Lets a handler arm the registration that it belongs to.
private final class Registration: Sendable {
  private let value = Mutex<DescriptorPoller.Registration?>(nil)

  func set(_ registration: DescriptorPoller.Registration) {
    value.withLock { $0 = registration }
  }

  func arm() {
    value.withLock { $0 }?.arm()
  }
}
