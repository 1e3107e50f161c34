import CLinux
import Glibc
import SystemPackage

/// What a process that has opened everything it needs gives up for the rest of its life: files, user, capabilities,
/// system calls.
package struct Confinement: Sendable {
  /// Which system calls stay allowed. Any other kills the process.
  package enum Profile: Sendable {
    /// Serves page faults over descriptors that it has, and ends its VMM, which has the same user. No capability.
    case pager
    /// Reads the memory of this process, and of no other, with process_vm_readv(2), for which it keeps CAP_SYS_PTRACE.
    case saver(subject: Int32)
  }

  /// To be entered: one with nothing in it.
  private let namespace: OwnedDescriptor
  private let userID: UInt32
  private let profile: Profile

  package init(namespace: OwnedDescriptor, userID: UInt32, profile: Profile) {
    self.namespace = namespace
    self.userID = userID
    self.profile = profile
  }

  /// - Precondition: the process is root and has one thread.
  /// - Throws: `SystemError` that names the step; the process has to end then, as some steps are done.
  package func enter() throws(SystemError) {
    var raw = clinux_confinement()
    raw.mount_namespace = namespace.rawValue
    raw.uid = userID
    raw.gid = userID
    switch profile {
    case .pager: raw.profile = Int32(CLINUX_CONFINED_PAGER)
    case .saver(let subject):
      raw.profile = Int32(CLINUX_CONFINED_SAVER)
      raw.subject = subject
    }
    var step: Int32 = 0
    let result = clinux_confine(&raw, &step)
    guard result >= 0 else { throw SystemError("confine", Errno(rawValue: -result), subject: "step \(step)") }
    namespace.close()
  }
}

/// Keeps what is in this process's memory from files and from other processes of its user.
package enum ProcessMemoryProtection {
  /// No core file, not dumpable (prctl(2), PR_SET_DUMPABLE).
  package static func enable() throws(SystemError) {
    let result = clinux_hide_memory()
    guard result >= 0 else { throw SystemError("prctl", Errno(rawValue: -result), subject: "PR_SET_DUMPABLE") }
  }
}
