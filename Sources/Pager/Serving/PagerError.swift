import LinuxSystem
import Model

/// The reason why a pager stops serving.
enum PagerError: Error {
  /// The VM has ended: the normal end.
  case machineEnded
  /// No VMM connected.
  case notConnected
  /// A page cannot be served, and the VM must not continue. The message is for the tenant.
  case unservable(MartletError)
  case system(SystemError)

  static func refused(_ reason: String) -> PagerError {
    .unservable(MartletError(.internalError, "the sandbox's memory could not be handed over: \(reason)"))
  }
}

/// Exit codes of a pager process.
enum PagerExitCode: Int32 {
  case machineEnded = 0
  case usage = 64
  /// A page could not be served; `pager.failure` contains the reason. The VM was killed.
  case unservable = 65
  case notConnected = 69
  case system = 71
}
