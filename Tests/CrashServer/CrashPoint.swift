import Concurrency
import Glibc

/// Where the process kills itself, as `kill -9` would: at the last of the named moments, once the others have passed in
/// their order.
final class CrashPoint: Sendable {
  private let ahead: Mutex<[Substring]>

  /// - Parameter names: separated by commas; nil for a process that lives on.
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
