import LinuxSystem
import Model

/// Why a pager stops serving.
enum PagerError: Error {
  /// The VM is gone: the normal end.
  case machineEnded
  /// No VMM came.
  case notConnected
  /// A page cannot be served: the VM must not run on. The message is for the tenant.
  case unservable(MartletError)
  case system(SystemError)

  static func refused(_ reason: String) -> PagerError {
    .unservable(MartletError(.internalError, "the sandbox's memory could not be handed over: \(reason)"))
  }
}

/// How a pager process ends.
enum PagerExitCode: Int32 {
  case machineEnded = 0
  case usage = 64
  /// A page could not be served; `pager.failure` says why. The VM was killed.
  case unservable = 65
  case notConnected = 69
  case system = 71
}
