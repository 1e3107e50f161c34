import Glibc

/// The limit on open descriptors of this process. Source: getrlimit(2), RLIMIT_NOFILE.
package enum OpenFiles {
  /// More than any server needs. Tools that close all descriptors one by one are slow under hard limits of 10⁹.
  private static let enough: rlim_t = 524_288

  /// The soft limit, which is the one in force.
  package static var limit: Int { Int(clamping: current.rlim_cur) }

  /// Raises the soft limit, typically 1,024, towards the hard limit.
  package static func raiseLimit() {
    var limits = current
    let wanted = min(limits.rlim_max, enough)
    guard wanted > limits.rlim_cur else { return }
    limits.rlim_cur = wanted
    // Best effort: with the old limit the server works for fewer clients.
    _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
  }

  private static var current: rlimit {
    var limits = rlimit()
    _ = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
    return limits
  }
}
