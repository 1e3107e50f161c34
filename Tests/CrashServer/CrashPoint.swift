import Concurrency
import Glibc

/// Kills the process, as `kill -9` would, at the last of the named steps, after the others have occurred in their
/// order.
final class CrashPoint: Sendable {
  private let ahead: Mutex<[Substring]>

  /// - Parameter names: names of steps, separated by commas; nil for no crash.
  init(_ names: String?) {
    ahead = Mutex(names?.split(separator: ",") ?? [])
  }

  func reached(_ name: String) {
    let isLast = ahead.withLock { names in
      guard let next = names.first, next == name else { return false }
      names.removeFirst()
      return names.isEmpty
    }
    if isLast { kill(getpid(), SIGKILL) }
  }
}
