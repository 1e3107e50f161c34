import CLinux
import Glibc
package import LinuxSystem
import SystemPackage

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
