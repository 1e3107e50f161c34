import Glibc

/// How many descriptors this process may have open.
///
/// Source: getrlimit(2), RLIMIT_NOFILE
package enum OpenFiles {
  /// More than any server needs; hard limits of a thousand million make tools slow that close all descriptors one by
  /// one.
  private static let enough: rlim_t = 524_288

  /// The soft limit, which is what counts.
  package static var limit: Int { Int(clamping: current.rlim_cur) }

  /// Raises the soft limit, by custom 1,024, towards the hard one.
  package static func raiseLimit() {
    var limits = current
    let wanted = min(limits.rlim_max, enough)
    guard wanted > limits.rlim_cur else { return }
    limits.rlim_cur = wanted
    // Best effort: with the limit as it was the server works, for fewer.
    _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
  }

  private static var current: rlimit {
    var limits = rlimit()
    _ = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
    return limits
  }
}
