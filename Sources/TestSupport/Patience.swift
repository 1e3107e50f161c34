import Glibc
import LinuxSystem

/// How long tests wait before they take something for broken: a limit of an idle machine, times the processes that
/// share a CPU at the moment. A test that passes alone also passes on a machine that does something else.
package enum Patience {
  private static let maximumFactor = 16.0

  /// Runnable processes per CPU, on average of the last minute; 1 at least.
  package static var factor: Double {
    // proc_loadavg(5): the first field is the average of one minute, over the whole machine.
    let load = (try? SmallFile.readText("/proc/loadavg"))?.split(separator: " ").first.flatMap { Double($0) } ?? 1
    return min(maximumFactor, max(1, load / Double(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))))
  }

  /// Calls `predicate` until it is true.
  /// - Returns: false when it has not become true within `limit`, times the load of the machine meanwhile.
  package static func waiting(
    for limit: Duration, every interval: Duration, until predicate: () async throws -> Bool
  ) async throws -> Bool {
    let begin = ContinuousClock.now
    var patience = limit
    while true {
      if try await predicate() { return true }
      patience = max(patience, limit * factor)
      guard ContinuousClock.now - begin < patience else { return false }
      try await Task.sleep(for: interval)
    }
  }
}
