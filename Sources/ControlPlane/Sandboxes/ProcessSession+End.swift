import Concurrency
package import HostAPI
import Model

extension ProcessSession {
  /// Calls `detach` and waits for it, even if the calling task is cancelled: a cancelled request must not leave its
  /// process running.
  package func end(killing: Bool) async {
    let timeoutError = MartletError(.agentError, "the guest agent does not respond")
    // An unstructured task does not inherit the cancellation.
    let task = Task {
      try? await waitAtMost(SandboxService.guestDeadline, throwing: timeoutError) {
        await self.detach(killing: killing)
      }
    }
    await task.value
  }
}
