package import HostAPI
import Model

extension ProcessSession {
  /// `detach`, carried to its end also when the calling task is cancelled: that is exactly when a process must not be
  /// forgotten (L-41).
  package func end(killing: Bool) async {
    let late = MartletError(.agentError, "the guest agent does not answer")
    // Unstructured: a task of its own does not inherit the cancellation.
    let task = Task {
      try? await withDeadline(SandboxService.guestDeadline, or: late) { await self.detach(killing: killing) }
    }
    await task.value
  }
}
