import CLinux
import Concurrency
import Glibc

/// A named network namespace under /run/netns, made by ip-netns(8).
package enum NetworkNamespace {
  package static let directory = "/run/netns"

  package static func open(path: String) throws(SystemError) -> OwnedDescriptor {
    try OwnedDescriptor.open(path, O_RDONLY)
  }

  /// Runs `body` inside the namespace on a new thread, which ends afterwards, so that no other work runs in the
  /// namespace.
  package static func run<Result: Sendable>(
    in path: String, _ body: @escaping @Sendable () throws(SystemError) -> Result
  ) async throws(SystemError) -> Result {
    let namespace = try open(path: path)
    let outcome: Swift.Result<Result, SystemError> = await withCheckedContinuation { continuation in
      Threads.start(name: "netns") {
        continuation.resume(
          returning: Swift.Result { () throws(SystemError) -> Result in
            try SystemError.check("setns", path) { clinux_setns(namespace.rawValue, clinux_clone_newnet) }
            return try body()
          })
      }
    }
    return try outcome.get()
  }
}
