import CLinux
import Concurrency
import Glibc
package import LinuxSystem
package import Logging
import SystemPackage

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

/// The signals that process 1 handles: SIGCHLD for orphaned processes, and the ones that request power-off.
package struct InitSignals: Sendable {
  /// busybox's poweroff, halt and reboot send USR2, USR1 and TERM to process 1.
  private static let powerOffSignals = [SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGPWR]

  package let descriptor: OwnedDescriptor

  /// Blocks the signals in the calling thread. Must be called before any other thread exists, because threads inherit
  /// the mask.
  package init() throws(SystemError) {
    let signals = [SIGCHLD] + Self.powerOffSignals
    let result = martlet_guest_open_signals(signals, signals.count)
    guard result >= 0 else { throw SystemError("signalfd", Errno(rawValue: -result)) }
    descriptor = OwnedDescriptor(result)
  }

  package struct Pending: Sendable, Equatable {
    package var hasChildEnded = false
    package var requestsPowerOff = false
  }

  /// Reads the signals that have arrived. Never blocks.
  package func drain() -> Pending {
    var pending = Pending()
    var information = signalfd_siginfo()
    while read(descriptor.rawValue, &information, MemoryLayout<signalfd_siginfo>.size)
      == MemoryLayout<signalfd_siginfo>.size
    {
      if information.ssi_signo == UInt32(SIGCHLD) {
        pending.hasChildEnded = true
      } else {
        pending.requestsPowerOff = true
      }
    }
    return pending
  }
}

/// Powers off the machine.
package enum PowerOff {
  private static let terminationGraceMilliseconds: UInt32 = 2_000
  private static let pollMilliseconds: UInt32 = 20

  /// Ends all processes, writes the file systems back and restarts the machine, which ends the VMM: it runs with
  /// reboots off, and the kernel with `reboot=t`. Returns only if the kernel refuses.
  package static func run() {
    endProcesses()
    sync()
    _ = mount(nil, "/", nil, UInt(MS_REMOUNT) | UInt(MS_RDONLY), nil)
    _ = reboot(Int32(bitPattern: UInt32(RB_AUTOBOOT)))
  }

  /// Sends SIGTERM to all other processes, and SIGKILL to those that have not ended in time.
  package static func endProcesses() {
    kill(-1, SIGTERM)
    kill(-1, SIGCONT)
    waitForChildren()
    kill(-1, SIGKILL)
  }

  private static func waitForChildren() {
    var waited: UInt32 = 0
    while waited < terminationGraceMilliseconds {
      while waitpid(-1, nil, WNOHANG) > 0 {}
      if waitpid(-1, nil, WNOHANG) < 0 && errno == ECHILD { return }
      usleep(pollMilliseconds * 1_000)
      waited += pollMilliseconds
    }
  }
}
